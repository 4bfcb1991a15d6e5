-- Clears the usage of one limit, and notifies all nodes.
--
-- KEYS[1]  the key of the limit.
-- ARGV     the channel, the name of the limit in announcements, and whether its key holds slots. It is published first, so that an error
--          leaves nothing half done; nobody receives it before the script has ended.
-- Answer   1 if there was any.

local key = KEYS[1]
if ARGV[3] == '1' then
  -- Leases that are alive keep their slots. A value of another type is an error.
  call('ZCARD', key)
  return 0
end
local state = call('GETRANGE', key, STATE_FROM, '-1')
local tag = #state >= 4 and unpack('<I4', state)
if state == '' then
  must_be_missing(key)
elseif tag ~= UNIT and tag ~= WEIGHTED and tag ~= COUNTER and tag ~= BUCKET and tag ~= CALENDAR then
  foreign(key)
end
local has_hash = is_there(key)
-- What was reset is not given back.
local has_holds = call('ZCARD', key .. 'x') > 0
call('PUBLISH', ARGV[1], ARGV[2])
-- Freed in the background, however long it is.
if has_hash then call('UNLINK', key .. 'b') end
if has_holds then call('UNLINK', key .. 'x') end
return call('UNLINK', key)
