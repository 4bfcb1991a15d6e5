
-- Changes what a counter, a token bucket or a calendar was charged, after calendar.lua in the same function.

  -- The command that changes the bucket of `key`, whose value is `state`, as change.lua describes it; nil if nothing is changed.
  --
  -- Without the difference, what was produced since might have found the bucket full, and would be lost. Since the charge at
  -- `at_s`, at least `used_then` less what was produced has always been missing, so that much can be given back.
  local function change_bucket(key, state, at_s, at_ns, old, new, used_then, of_s, of_ns)
    local kept_s, kept_ns, _, refill, window_s, window_ns = read_bucket(key, state)
    if window_s ~= of_s or window_ns ~= of_ns then return nil end
    local usage, missing, _, value, life_ms =
      read_bucket_at(key, math.max(0, new - old), window_s, window_ns, kept_s, kept_ns, refill, MOST_TOTAL)
    if new < old then
      local start_s, start_ns, since_s, since_ns = aligned(kept_s, kept_ns, window_s, window_ns, now_s, now_ns)
      local then_s, then_ns, after_s, after_ns = aligned(kept_s, kept_ns, window_s, window_ns, at_s, at_ns)
      -- A multiple of the window, so it is rounded to the nearest number.
      local windows = math.max(0,
        floor((start_s - then_s + (start_ns - then_ns) / 1000000000) / (window_s + window_ns / 1000000000) + 0.5))
      local until_now = windows * refill + scaled(refill, since_s, since_ns, window_s, window_ns)
      local produced = math.max(0, until_now - scaled(refill, after_s, after_ns, window_s, window_ns))
      local given_back = math.min(used_then - produced, usage, old - new)
      if given_back <= 0 then return nil end
      missing = missing - given_back
    else
      missing = missing + new - old
      if missing > MOST_TOTAL then return nil end
    end
    if refill == 0 then return { { 'SET', key, value(missing), 'KEEPTTL' } } end
    return { { 'SET', key, value(missing), 'PX', string.format('%d', life_ms + slack_ms) } }
  end

  local function change_tally(kind, key, state, tag, number, stamp, old, new, used_then, of_s, of_ns)
    if kind == 3 then
      if tag ~= COUNTER then return nil end
      local _, start_s, start_ns, current, previous, window_s, window_ns = unpack(COUNTER_STATE, state)
      if window_s ~= of_s or window_ns ~= of_ns then return nil end
      number, stamp = aligned(start_s, start_ns, window_s, window_ns, number, stamp)
      local next_s, next_ns = number + window_s, stamp + window_ns
      if next_ns >= 1000000000 then next_s, next_ns = next_s + 1, next_ns - 1000000000 end
      -- The window of an admission, or an earlier one to which its counts were moved when the clock stepped back.
      if (start_s < number or start_s == number and start_ns <= stamp) and current >= old then
        current = current - old + new
      elseif start_s == next_s and start_ns == next_ns and previous >= old then
        previous = previous - old + new
      else
        return nil
      end
      if current > MOST_TOTAL or previous > MOST_TOTAL then return nil end
      local value = pack(COUNTER_STATE, COUNTER, start_s, start_ns, current, previous, window_s, window_ns)
      return { { 'SET', key, value, 'KEEPTTL' } }
    elseif kind == 4 then
      if tag ~= BUCKET or old == 0 then return nil end
      return change_bucket(key, state, number, stamp, old, new, used_then, of_s, of_ns)
    else
      if tag ~= CALENDAR then return nil end
      local start_s, end_s, count = read_calendar(key, state)
      -- The period of the admission, or an earlier one to which its count was moved when the clock stepped back.
      local is_its = start_s == number and end_s == of_s or end_s <= number
      if not is_its or count < old or count - old + new > MOST_TOTAL then return nil end
      return { { 'SET', key, pack(CALENDAR_STATE, CALENDAR, start_s, end_s, count - old + new), 'KEEPTTL' } }
    end
  end
