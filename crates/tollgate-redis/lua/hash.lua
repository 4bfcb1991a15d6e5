-- Reads the hash of a long log, for long.lua and change.lua.

-- The hash is missing although the state says that there is one: the slot is being moved to another server, or it was
-- evicted.
local function missing(key)
  error({ err = 'TRYAGAIN the older part of the log ' .. key .. ' is not here' })
end

-- Whether there is a hash; raises an error if it was not written by Tollgate.
local function is_there(key)
  if call('HLEN', key .. 'b') == 0 then return false end
  if call('HGET', key .. 'b', 'v') ~= HASH_MARK then foreign(key .. 'b') end
  return true
end

local function field(key, name)
  return call('HGET', key .. 'b', name) or missing(key)
end

-- Converts `text`, entries of cost 1, to weighted entries.
local function weighted(text)
  return (text:gsub('......', '%0\1\0\0\0\0\0\0'))
end
