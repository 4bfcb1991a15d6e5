if #KEYS > limits then
  local first_answer = call('GET', KEYS[#KEYS])
  if first_answer then
    if first_answer:sub(1, 4) ~= 'T\4\0\1' then
      error('TOLLGATE the key ' .. KEYS[#KEYS] .. ' holds what this version did not write')
    end
    local first_s, first_ns = unpack('<I4I4', first_answer, 5)
    local since_s, since_ns = now_s - first_s, now_ns - first_ns
    if since_ns < 0 then since_s, since_ns = since_s - 1, since_ns + 1000000000 end
    if since_s < once_s or since_s == once_s and since_ns < once_ns then return first_answer:sub(5) end
  end
end

local allowed, answer, other = true, nil, nil
-- By limit: what to append; or the whole value to write and the life to set with it, in ms; or what else is
-- to be written.
local adds, values, lives, parts = {}, nil, nil, nil
for i = 1, limits do
  local key, argument = KEYS[i], ARGV[i + 1]
  local tag, limit, cost, window, tick_ns, ttl_ms, mode = unpack('<I4I7I7I4I4I5B', argument)
  local text
  if limit <= SHORT_LIMIT then
    text = call('GET', key) or ''
  else
    text = call('GETRANGE', key, 0, FIRST_BYTES - 1)
  end
  local bytes = #text
  local flags, usage, newest_after, freeing_after = 0, 0, 0, 0
  local kept_tag, anchor_s, anchor_low, expiry
  if bytes >= HEADER_BYTES then kept_tag, anchor_s, anchor_low, expiry = unpack('<I4I4I4I5', text) end
  local decided = cost == 1 and mode < 2 and (kept_tag == tag or bytes == 0)
  local below, per_s, now, up
  if decided then
    below, per_s = now_ns % tick_ns, 1000000000 / tick_ns
    now, up = (now_ns - below) / tick_ns, below > 0 and 1 or 0
  end
  if decided and bytes == FIRST_BYTES then
    -- A long log with room, none of whose entries has left: one more is appended.
    local head, count = unpack('<I4I4', text, 18)
    decided = count > 0 and HEADER_BYTES + 4 * head < FIRST_BYTES
    if decided then
      local tail = call('GETRANGE', key, HEADER_BYTES + 4 * (count - 1), -1)
      local unnoted = #tail / 4 - 1
      local low, floor = unpack('<I4', tail, #tail - 3), now + (now_s - anchor_s) * per_s
      local newest, stamp = (low - anchor_low) % STAMPS, floor + up
      local oldest_age = (low - unpack('<I4', text, HEADER_BYTES + 1 + 4 * head)) % STAMPS
      usage = count + unnoted - head
      decided = newest <= stamp and newest - oldest_age + window > floor and usage < limit
        and stamp + window <= expiry and unnoted < CHUNK_ENTRIES and usage < SHORTEST_FULL
      if decided then
        flags, newest_after = 3, newest - floor
        if charging then adds[i] = pack('<I4', (anchor_low + stamp) % STAMPS) end
      end
    end
  elseif decided then
    local newest, low, dead, clamped = 0, 0, 0, false
    if bytes > 0 then
      local floor = now + (now_s - anchor_s) * per_s
      low = unpack('<I4', text, bytes - 3)
      newest = (low - anchor_low) % STAMPS
      -- A clock that has stepped back stands still at the newest entry (R7).
      clamped = newest > floor + up
      local at = clamped and newest or floor
      if newest + window <= at then
        bytes = 0
      else
        while newest - (low - unpack('<I4', text, HEADER_BYTES + 1 + 4 * dead)) % STAMPS + window <= at do
          dead = dead + 1
        end
        usage = (bytes - HEADER_BYTES) / 4 - dead
        flags, newest_after, now = 2, newest - floor, at
        if clamped then up = 0 end
      end
    end
    if usage < limit then
      flags = flags + 1
      if not charging then
        -- Nothing to write.
      elseif bytes == 0 then
        values, lives = values or {}, lives or {}
        values[i] = pack('<I4I4I4I5I4I4I7I4', tag, now_s, 0, ttl_ms / 1000 * per_s, 0, 0, 0, now + up)
        lives[i] = ttl_ms
      else
        local added = pack('<I4', (anchor_low + now + up) % STAMPS)
        if now + up + window > expiry and not clamped then
          values, lives = values or {}, lives or {}
          anchor_low = (anchor_low + (now_s - anchor_s) * per_s) % STAMPS
          values[i] = pack('<I4I4I4I5I4I4I7', tag, now_s, anchor_low, ttl_ms / 1000 * per_s, 0, 0, 0)
            .. text:sub(HEADER_BYTES + 1 + 4 * dead) .. added
          lives[i] = ttl_ms
        elseif dead == 0 then
          adds[i] = added
        else
          values = values or {}
          values[i] = text:sub(1, HEADER_BYTES) .. text:sub(HEADER_BYTES + 1 + 4 * dead) .. added
        end
      end
    else
      if mode % 2 == 0 then allowed = false end
      if limit > 0 then
        local at = HEADER_BYTES + 1 + 4 * (dead + usage - limit)
        freeing_after = newest_after - (low - unpack('<I4', text, at)) % STAMPS
      end
    end
  end
  if not decided then
    other = other or make_other(call, pack, unpack, STAMPS, FIRST_BYTES, HEADER_BYTES, CHUNK_ENTRIES,
      charging, now_s, now_ns)
    local admits, part
    admits, flags, usage, newest_after, freeing_after, part = other(key, argument, text)
    if part then
      parts = parts or {}
      parts[i] = part
    end
    if not admits and mode % 2 == 0 then allowed = false end
  end
  if answer then
    answer = answer .. pack('<BI7i8i8', flags, usage, newest_after, freeing_after)
  else
    answer = pack('<I4I4BI7i8i8', now_s, now_ns, flags, usage, newest_after, freeing_after)
  end
end

if charging and allowed then
  for i = 1, limits do
    local key = KEYS[i]
    if adds[i] then
      call('APPEND', key, adds[i])
    elseif values and values[i] then
      if lives and lives[i] then
        call('SET', key, values[i], 'PX', lives[i] + slack_ms)
      else
        call('SET', key, values[i], 'KEEPTTL')
      end
    elseif parts and parts[i] then
      local part = parts[i]
      if part.value then
        if part.life_ms then
          call('SET', key, part.value, 'PX', part.life_ms + slack_ms)
        else
          call('SET', key, part.value, 'KEEPTTL')
        end
      else
        if part.header then call('SETRANGE', key, 0, part.header) end
        if part.life_ms then call('PEXPIRE', key, part.life_ms + slack_ms) end
        call('APPEND', key, part.added)
      end
    end
  end
  if #KEYS > limits then
    local life_ms = once_s * 1000 + math.ceil(once_ns / 1000000) + 1
    call('SET', KEYS[#KEYS], 'T\4\0\1' .. answer, 'PX', life_ms + slack_ms)
  end
end
return answer
