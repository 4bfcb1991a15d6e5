-- Forgets the usage of one limit, and tells all nodes.
--
-- KEYS[1]  the key of the limit.
-- ARGV     the channel, and what names the limit on it. It is published first, so that an error leaves nothing
--          half done; nobody hears of it before the script has ended.
-- Answer   1 if there was any.

local kept = redis.call('GETRANGE', KEYS[1], 0, 3)
local magic, kind, _, version = kept:byte(1, 4)
if kept ~= '' and (magic ~= 84 or kind > 3 or version ~= 1) then
  error('TOLLGATE the key ' .. KEYS[1] .. ' holds what this version did not write')
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return redis.call('DEL', KEYS[1])
