-- Takes and frees the slots that leases hold (R16), and notes what they give back when they expire (R15).

-- Adds `member` to the sorted set `key` until `expires_us`; the key lives `more_ms` longer. Returns whether there was one before.
local function add_until(key, member, expires_us, more_ms)
  local last_us = call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  local life_ms = ceil((math.max(last_us or 0, expires_us) - now_us) / 1000) + more_ms + 1 + slack_ms
  -- No key may exist without an expiry, and none may expire before its members.
  if last_us then call('PEXPIRE', key, string.format('%d', life_ms)) end
  call('ZADD', key, string.format('%.0f', expires_us), member)
  if not last_us then
    local given = redis.pcall('PEXPIRE', key, string.format('%d', life_ms))
    if type(given) == 'table' then
      call('ZREM', key, member)
      error(given)
    end
  end
  return last_us
end

-- Takes a slot of `key` until `expires_us`, for `lease`.
local function take_slot(key, lease, expires_us)
  if not add_until(key, lease, expires_us, 0) then return end
  local expired = call('ZCOUNT', key, '-inf', string.format('%.0f', now_us))
  if expired > 0 then call('ZREMRANGEBYRANK', key, 0, math.min(expired, MOST_FREED) - 1) end
end
