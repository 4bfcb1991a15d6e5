-- Forgets the usage of one limit.
--
-- KEYS[1]  the key of the limit.
-- Answer   1 if there was any.

local kept = redis.call('GETRANGE', KEYS[1], 0, 3)
if kept == '' then return 0 end
local magic, kind, _, version = kept:byte(1, 4)
if magic ~= 84 or kind > 3 or version ~= 1 then
  error('TOLLGATE the key ' .. KEYS[1] .. ' holds what this version did not write')
end
return redis.call('DEL', KEYS[1])
