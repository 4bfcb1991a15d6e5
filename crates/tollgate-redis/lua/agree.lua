-- What the nodes that share this store have agreed on: the value of whoever gave one first.
--
-- KEYS[1]  the key of the agreement.
-- ARGV     the value of this node, and for how many milliseconds it is kept after a node has given it last.
-- Answer   the value that is kept.

local kept = redis.call('GET', KEYS[1])
if kept and kept ~= ARGV[1] then return kept end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
