  -- Brings a log to the ticks of another window, rounded up so that no entry leaves early (R7).
  local function rescale(log, exponent, window, now_tick)
    local entries, newest = entries_of(log)
    local ratio = 10 ^ (log.exponent - exponent)
    local per_s = 10 ^ (9 - exponent)
    local function rescaled(tick)
      if ratio >= 1 then return tick * ratio end
      local divisor = 10 ^ (exponent - log.exponent)
      return (tick + (-tick) % divisor) / divisor
    end
    newest = rescaled(newest)
    local shift_s = (newest - newest % per_s) / per_s
    local live = {}
    for i = 1, #entries do
      local tick = rescaled(entries[i][1])
      -- What has left goes now: it may be too old for the new ticks.
      if tick + window > now_tick(log.anchor_s) then
        live[#live + 1] = { tick - shift_s * per_s, entries[i][2] }
      end
    end
    local expiry = rescaled(log.expiry) - shift_s * per_s
    if #live == 0 then return nil end
    rebuilt(log, log.anchor_s + shift_s, expiry < 0 and 0 or expiry, live)
    log.exponent = exponent
    return log
  end

  -- What an admission stamped `stamp` writes to `log`.
  local function admission(log, stamp, clamped, exponent, cost, window, per_s, ttl_ms)
    local lifetime = ttl_ms / 1000 * per_s
    if not log then
      local kind = cost == 1 and UNIT or WEIGHTED
      local header = pack(HEADER, MAGIC, kind, exponent, VERSION, now_s, 0, lifetime, 0, 0, 0)
      local first = kind == UNIT and pack('<I4', stamp) or pack('<I4I7', stamp, cost)
      return { value = header .. first, life_ms = ttl_ms }
    end
    local added = pack('<I4', (log.anchor_low + stamp) % STAMPS)
    if log.kind == WEIGHTED then
      local sum = log.total
      sum = sum >= SUMS - cost and sum - (SUMS - cost) or sum + cost
      added = added .. pack('<I7', sum)
    end
    local late = not clamped and stamp + window > log.expiry
    local noted = log.unnoted < CHUNK_ENTRIES and log.head - log.noted_head < CHUNK_ENTRIES
    if log.long and noted and not late and log.head <= log.count - log.head then return { added = added } end
    local function header(head, count, base)
      if late then
        log.anchor_low = (log.anchor_low + (now_s - log.anchor_s) * per_s) % STAMPS
        log.anchor_s, log.expiry = now_s, lifetime
      end
      return pack(HEADER, MAGIC, log.kind, exponent, VERSION, log.anchor_s, log.anchor_low, log.expiry, head,
        HEADER_BYTES + count * log.width < FIRST_BYTES and 0 or count, base)
    end
    local life_ms = late and ttl_ms or nil
    local live_at, live = HEADER_BYTES + log.head * log.width, log.count - log.head
    if not log.long then
      return { value = header(0, live + 1, log.base) .. log.text:sub(live_at + 1) .. added, life_ms = life_ms }
    end
    if log.head > live then
      local text = call('GETRANGE', log.key, live_at, -1)
      return { value = header(0, live + 1, log.base) .. text .. added, life_ms = life_ms }
    end
    return { header = header(log.head, log.count + 1, log.cut_base), added = added, life_ms = life_ms }
  end

  local function decide_log(key, argument, text)
    local _, kind, exponent, _, limit, cost, window, tick_ns, ttl_ms = unpack('<BBBBI7I7I4I4I5', argument)
    local below, per_s = now_ns % tick_ns, 1000000000 / tick_ns
    local tick, up = (now_ns - below) / tick_ns, below > 0 and 1 or 0
    local function now_tick(anchor_s) return (now_s - anchor_s) * per_s + tick end
    local log = text ~= '' and open(key, text) or nil
    if log and log.exponent ~= exponent then log = rescale(log, exponent, window, now_tick) end
    if log and log.kind == UNIT and cost > 1 then
      rebuilt(log, log.anchor_s, log.expiry, (entries_of(log)))
    end
    local floor, usage, newest, newest_low, clamped = tick, 0, 0, 0, false
    local now, stamp = tick, tick + up
    if log then
      floor = now_tick(log.anchor_s)
      now, stamp = floor, floor + up
      newest_low, log.total = entry(log, log.count - 1)
      newest = (newest_low - log.anchor_low) % STAMPS
      if newest > stamp then now, stamp, clamped = newest, newest, true end
      if newest + window <= now then
        log, floor, now, stamp = nil, tick, tick, tick + up
      end
    end
    local function age(index) return (newest_low - (entry(log, index))) % STAMPS end
    if log then
      if newest - age(log.head) + window <= now then
        log.head = first_that(log.head, log.count - 1, function(index)
          return newest - age(index) + window > now
        end)
        if log.kind == WEIGHTED then
          local _, before = entry(log, log.head - 1)
          log.base = before
        end
      end
      usage = log.kind == UNIT and log.count - log.head or (log.total - log.base) % SUMS
    end
    local needed = cost == 0 and 1 or cost
    local flags, newest_after = log and 2 or 0, log and newest - floor or 0
    if usage <= limit and needed <= limit - usage then
      local part
      if charging and cost > 0 then
        part = admission(log, stamp, clamped, exponent, cost, window, per_s, ttl_ms)
      end
      return true, flags + 1, usage, newest_after, 0, part
    end
    local freeing_after = 0
    if log and needed <= limit then
      local excess = usage - (limit - needed)
      local index = log.head + excess - 1
      if log.kind == WEIGHTED then
        index = first_that(log.head, log.count - 1, function(one)
          local _, sum = entry(log, one)
          return (sum - log.base) % SUMS >= excess
        end)
      end
      freeing_after = newest_after - age(index)
    end
    return false, flags, usage, newest_after, freeing_after
  end

  -- previous · left / window, rounded up; times are seconds and nanoseconds.
  local function faded(previous, left_s, left_ns, window_s, window_ns)
    local unit = (left_ns % 1000 == 0 and window_ns % 1000 == 0) and 1000 or 1
    local left = left_s * (1000000000 / unit) + left_ns / unit
    local width = window_s * (1000000000 / unit) + window_ns / unit
    if width < SUMS and previous * left < SUMS then
      local product = previous * left
      local rest = product % width
      return (product - rest) / width + (rest > 0 and 1 or 0)
    end
    -- Too large for one product: bit by bit, from the highest.
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

  -- The time since the start of the window that now is in, and that start: from any start of a window.
  local function aligned(start_s, start_ns, window_s, window_ns)
    while true do
      local since_s, since_ns = now_s - start_s, now_ns - start_ns
      if since_ns < 0 then since_s, since_ns = since_s - 1, since_ns + 1000000000 end
      if since_s >= 0 and (since_s < window_s or since_s == window_s and since_ns < window_ns) then
        return start_s, start_ns, since_s, since_ns
      end
      local windows = math.floor((since_s + since_ns / 1000000000) / (window_s + window_ns / 1000000000))
      windows = math.max(-4194304, math.min(4194304, windows))
      if windows == 0 then windows = since_s < 0 and -1 or 1 end
      start_ns = start_ns + windows * window_ns
      local carry = math.floor(start_ns / 1000000000)
      start_s, start_ns = start_s + windows * window_s + carry, start_ns - carry * 1000000000
    end
  end

  local function decide_counter(key, argument, text)
    local _, kind, _, _, limit, cost, window_s, window_ns, ttl_ms, _, hint_s, hint_ns =
      unpack('<BBBBI7I7I4I4I5BI4I4', argument)
    local start_s, start_ns, since_s, since_ns = aligned(hint_s, hint_ns, window_s, window_ns)
    local current, previous, ahead = 0, 0, 0
    if text ~= '' and not open(key, text) then
      local _, _, _, _, kept_s, kept_ns, kept_current, kept_previous, kept_window_s, kept_window_ns =
        unpack(COUNTER_STATE, text)
      -- A counter of another window starts afresh.
      if kept_window_s == window_s and kept_window_ns == window_ns then
        local next_s, next_ns = kept_s + window_s, kept_ns + window_ns
        if next_ns >= 1000000000 then next_s, next_ns = next_s + 1, next_ns - 1000000000 end
        if kept_s > start_s or kept_s == start_s and kept_ns >= start_ns then
          -- A clock that has stepped back stands still at the start of the latest window (R7).
          if kept_s ~= start_s or kept_ns ~= start_ns then
            local ahead_s = kept_s - start_s + (kept_ns - start_ns) / 1000000000
            ahead = math.floor(ahead_s / (window_s + window_ns / 1000000000) + 0.5)
            since_s, since_ns = 0, 0
          end
          start_s, start_ns, current, previous = kept_s, kept_ns, kept_current, kept_previous
        elseif next_s == start_s and next_ns == start_ns then
          previous = kept_current
        end
      end
    end
    local left_s, left_ns = window_s - since_s, window_ns - since_ns
    if left_ns < 0 then left_s, left_ns = left_s - 1, left_ns + 1000000000 end
    local usage = current + faded(previous, left_s, left_ns, window_s, window_ns)
    local needed = cost == 0 and 1 or cost
    local admits = usage <= limit and needed <= limit - usage
    local part
    if admits and charging and cost > 0 then
      local value = pack(COUNTER_STATE, MAGIC, COUNTER, 0, VERSION, start_s, start_ns, current + cost, previous,
        window_s, window_ns)
      part = { value = value, life_ms = ttl_ms }
    end
    -- The answer is the counts, and how many windows the counter is ahead of a clock that has stepped back.
    return admits, admits and 5 or 4, current, previous, ahead, part
  end

  return function(key, argument, text)
    if argument:byte(2) == COUNTER then return decide_counter(key, argument, text) end
    return decide_log(key, argument, text)
  end
