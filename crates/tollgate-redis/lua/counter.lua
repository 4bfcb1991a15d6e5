-- Counters (R2). `make_tallies` wraps this file in a function, which is created when it is needed.

  -- The most windows that are stepped over at once, so that a product stays exact.
  local MOST_WINDOWS = 4194304

  -- The start of the window that a time is in, and the time since that start, computed from the start of any window.
  local function aligned(start_s, start_ns, window_s, window_ns, at_s, at_ns)
    while true do
      local since_s, since_ns = at_s - start_s, at_ns - start_ns
      if since_ns < 0 then since_s, since_ns = since_s - 1, since_ns + 1000000000 end
      if since_s >= 0 and (since_s < window_s or since_s == window_s and since_ns < window_ns) then
        return start_s, start_ns, since_s, since_ns
      end
      local windows = floor((since_s + since_ns / 1000000000) / (window_s + window_ns / 1000000000))
      windows = math.max(-MOST_WINDOWS, math.min(MOST_WINDOWS, windows))
      if windows == 0 then windows = since_s < 0 and -1 or 1 end
      start_ns = start_ns + windows * window_ns
      local carry = floor(start_ns / 1000000000)
      start_s, start_ns = start_s + windows * window_s + carry, start_ns - carry * 1000000000
    end
  end

  -- Returns the usage, the counts, whether these must be stored because the clock has stepped back, the value for a count,
  -- and, if the question is of a lease, whether the key has usage that is not counted in this window.
  local function read_counter(key, window_s, window_ns, hint_s, hint_ns, of_lease)
    local start_s, start_ns, since_s, since_ns = aligned(hint_s, hint_ns, window_s, window_ns, now_s, now_ns)
    local current, previous, stepped, is_other = 0, 0, false, false
    local text = call('GETRANGE', key, STATE_FROM, '-1')
    local tag = #text >= 4 and unpack('<I4', text)
    if tag == COUNTER then
      local _, kept_s, kept_ns, kept_current, kept_previous, kept_window_s, kept_window_ns =
        unpack(COUNTER_STATE, text)
      if kept_current > MOST_TOTAL or kept_previous > MOST_TOTAL then foreign(key) end
      -- A counter with another window length starts at 0.
      if kept_window_s == window_s and kept_window_ns == window_ns then
        local next_s, next_ns = kept_s + window_s, kept_ns + window_ns
        if next_ns >= 1000000000 then next_s, next_ns = next_s + 1, next_ns - 1000000000 end
        if kept_s > start_s or kept_s == start_s and kept_ns >= start_ns then
          -- After a step back of the clock, the counts belong to the current window (R7).
          stepped = kept_s ~= start_s or kept_ns ~= start_ns
          current, previous = kept_current, kept_previous
        elseif next_s == start_s and next_ns == start_ns then
          previous = kept_current
        end
      else
        is_other = of_lease
      end
    elseif text == '' then
      must_be_missing(key)
    elseif tag ~= UNIT and tag ~= WEIGHTED and tag ~= BUCKET and tag ~= CALENDAR then
      foreign(key)
    else
      is_other = of_lease
    end
    local left_s, left_ns = window_s - since_s, window_ns - since_ns
    if left_ns < 0 then left_s, left_ns = left_s - 1, left_ns + 1000000000 end
    local faded, has_rest = scaled(previous, left_s, left_ns, window_s, window_ns)
    local usage = current + faded + (has_rest and 1 or 0)
    local function value(count)
      return pack(COUNTER_STATE, COUNTER, start_s, start_ns, count, previous, window_s, window_ns)
    end
    return usage, current, previous, stepped, value, is_other
  end
