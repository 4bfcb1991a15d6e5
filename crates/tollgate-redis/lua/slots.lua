-- Takes and frees the slots that leases hold (R16).

-- Takes a slot of `key` until `expires_us`, for `lease`.
local function take_slot(key, lease, expires_us)
  local last_us = call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  local life_ms = ceil((math.max(last_us or 0, expires_us) - now_us) / 1000) + 1 + slack_ms
  -- No key may exist without an expiry, and none may expire before its slots.
  if last_us then call('PEXPIRE', key, string.format('%d', life_ms)) end
  call('ZADD', key, string.format('%.0f', expires_us), lease)
  if not last_us then
    local given = redis.pcall('PEXPIRE', key, string.format('%d', life_ms))
    if type(given) == 'table' then
      call('ZREM', key, lease)
      error(given)
    end
    return
  end
  local expired = call('ZCOUNT', key, '-inf', string.format('%.0f', now_us))
  if expired > 0 then call('ZREMRANGEBYRANK', key, 0, math.min(expired, MOST_FREED) - 1) end
end
