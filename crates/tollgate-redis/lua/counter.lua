-- Counters (R2). `make_counter` wraps this file in a function, which is created when it is needed.

  -- The most windows that are stepped over at once, so that a product stays exact.
  local MOST_WINDOWS = 4194304

  -- previous · left / window, rounded up; times are seconds and nanoseconds.
  local function faded(previous, left_s, left_ns, window_s, window_ns)
    local unit = (left_ns % 1000 == 0 and window_ns % 1000 == 0) and 1000 or 1
    local left = left_s * (1000000000 / unit) + left_ns / unit
    local width = window_s * (1000000000 / unit) + window_ns / unit
    if width <= MOST_TOTAL and previous * left <= MOST_TOTAL then
      local product = previous * left
      local rest = product % width
      return (product - rest) / width + (rest > 0 and 1 or 0)
    end
    -- Too large for one product: computed bit by bit, starting with the highest.
    local bit = 4503599627370496
    local quotient, rest_s, rest_ns = 0, 0, 0
    while bit >= 1 do
      quotient, rest_s, rest_ns = quotient * 2, rest_s * 2, rest_ns * 2
      if previous >= bit then
        previous = previous - bit
        rest_s, rest_ns = rest_s + left_s, rest_ns + left_ns
      end
      while rest_ns >= 1000000000 do rest_s, rest_ns = rest_s + 1, rest_ns - 1000000000 end
      while rest_s > window_s or rest_s == window_s and rest_ns >= window_ns do
        quotient, rest_s, rest_ns = quotient + 1, rest_s - window_s, rest_ns - window_ns
        if rest_ns < 0 then rest_s, rest_ns = rest_s - 1, rest_ns + 1000000000 end
      end
      bit = bit / 2
    end
    return quotient + ((rest_s > 0 or rest_ns > 0) and 1 or 0)
  end

  -- The time since the start of the current window, and that start, computed from the start of any window.
  local function aligned(start_s, start_ns, window_s, window_ns)
    while true do
      local since_s, since_ns = now_s - start_s, now_ns - start_ns
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

  -- Decides `cost`. Returns the verdict, the counts before, whether these must be stored because the clock has stepped
  -- back, and the value without and with the cost.
  return function(key, limit, cost, window_s, window_ns, hint_s, hint_ns)
    local start_s, start_ns, since_s, since_ns = aligned(hint_s, hint_ns, window_s, window_ns)
    local current, previous, stepped = 0, 0, false
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
      end
    elseif text == '' then
      must_be_missing(key)
    elseif tag ~= UNIT and tag ~= WEIGHTED then
      foreign(key)
    end
    local left_s, left_ns = window_s - since_s, window_ns - since_ns
    if left_ns < 0 then left_s, left_ns = left_s - 1, left_ns + 1000000000 end
    local usage = current + faded(previous, left_s, left_ns, window_s, window_ns)
    local needed = cost == 0 and 1 or cost
    local function value(count)
      return pack(COUNTER_STATE, COUNTER, start_s, start_ns, count, previous, window_s, window_ns)
    end
    return usage <= limit and needed <= limit - usage, current, previous, stepped, value, tag
  end
