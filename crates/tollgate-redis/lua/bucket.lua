
-- Token buckets (R17), after counter.lua in the same function.

  -- Returns the usage, what is missing from the bucket since the start of the window, whether that must be stored because the
  -- clock has stepped back or the refill is another one, the value for what is missing, how long a value with `cost` lives, and,
  -- if the question is of a lease, whether the key has usage that is not counted in this window. A lease leaves the refill as it
  -- is.
  local function read_bucket_at(key, cost, window_s, window_ns, hint_s, hint_ns, refill, longest_ms, of_lease)
    local start_s, start_ns, since_s, since_ns = aligned(hint_s, hint_ns, window_s, window_ns, now_s, now_ns)
    local missing, stepped, is_other = 0, false, false
    local text = call('GETRANGE', key, STATE_FROM, '-1')
    local tag = #text >= 4 and unpack('<I4', text)
    if tag == BUCKET then
      local kept_s, kept_ns, kept_missing, kept_refill, kept_window_s, kept_window_ns, written_s, written_ns =
        read_bucket(key, text)
      -- A bucket with another window length starts full.
      if kept_window_s == window_s and kept_window_ns == window_ns then
        missing = kept_missing
        if of_lease then refill = kept_refill end
        local ahead_s = kept_s + written_s - start_s - since_s
        local ahead_ns = kept_ns + written_ns - start_ns - since_ns
        if ahead_s * 1000000000 + ahead_ns > 0 then
          -- After a step back of the clock, as much is missing as when it was written (R7).
          stepped = true
          local used = missing - scaled(kept_refill, written_s, written_ns, window_s, window_ns)
          missing = used > 0 and math.min(MOST_TOTAL, used + scaled(kept_refill, since_s, since_ns, window_s, window_ns)) or 0
        else
          -- A multiple of the window, so it is rounded to the nearest number.
          local windows = floor(
            (start_s - kept_s + (start_ns - kept_ns) / 1000000000) / (window_s + window_ns / 1000000000) + 0.5)
          missing = math.max(0, missing - windows * kept_refill)
        end
        if kept_refill ~= refill then
          -- From now on the new refill applies, whether something is admitted or not.
          stepped = true
          local used = missing - scaled(kept_refill, since_s, since_ns, window_s, window_ns)
          missing = used > 0 and math.min(MOST_TOTAL, used + scaled(refill, since_s, since_ns, window_s, window_ns)) or 0
        end
      else
        is_other = of_lease
      end
    elseif text == '' then
      must_be_missing(key)
    elseif tag ~= UNIT and tag ~= WEIGHTED and tag ~= COUNTER and tag ~= CALENDAR then
      foreign(key)
    else
      is_other = of_lease
    end
    -- What was produced while the bucket was full is lost.
    local produced = scaled(refill, since_s, since_ns, window_s, window_ns)
    missing = math.max(missing, produced)
    local usage = missing - produced
    local function value(count)
      return pack(BUCKET_STATE, BUCKET, start_s, start_ns, count, refill, window_s, window_ns, since_s, since_ns)
    end
    local life_ms = longest_ms
    if refill > 0 then
      life_ms = math.min(life_ms, ceil((usage + cost) * (window_s * 1000 + window_ns / 1000000) / refill) + 500)
    end
    return usage, missing, stepped, value, life_ms, is_other
  end
