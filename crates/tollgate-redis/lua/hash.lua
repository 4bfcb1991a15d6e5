-- What reads the hash of a long log, for long.lua and change.lua.

-- The hash is not there although the state says so: the slot is on its way to another server, or it was evicted.
local function missing(key)
  error({ err = 'TRYAGAIN the older part of the log ' .. key .. ' is not here' })
end

-- Whether there is a hash; it is an error if that is not one of these.
local function is_there(key)
  if call('HLEN', key .. 'b') == 0 then return false end
  if call('HGET', key .. 'b', 'v') ~= HASH_MARK then foreign(key .. 'b') end
  return true
end

local function field(key, name)
  return call('HGET', key .. 'b', name) or missing(key)
end

-- `text`, entries of cost 1, as weighted ones.
local function weighted(text)
  return (text:gsub('......', '%0\1\0\0\0\0\0\0'))
end
