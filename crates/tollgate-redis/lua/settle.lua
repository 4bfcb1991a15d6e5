-- Changes what one admission was charged, or refunds it.
--
-- KEYS[1]  the key of the limit.
-- KEYS[2]  the key of the request id, if the whole admission is refunded: then its answer was never sent.
-- ARGV[1]  packed by `wire.rs`: whether a test sets the time.
-- ARGV[2]  the change, as change.lua reads it.
-- ARGV[3…] the channel on which usage that is given back is announced, and the name of the limit in announcements.
-- Answer   1 if the admission was found and changed; otherwise 0.

local commands = change(KEYS[1], ARGV[2], 1)
if not commands then return 0 end
local old, new = unpack('<dd', ARGV[2], 18)
-- This is the first write, so that an error changes nothing. Nobody receives it before the script ends.
if new < old then call('PUBLISH', ARGV[3], ARGV[4]) end
if KEYS[2] then call('DEL', KEYS[2]) end
apply(commands)
return 1
