-- Changes a lease (R14, R15): everything is read first, then the lease is written, then what it holds.
--
-- KEYS     that of the lease; those of its limits, in their order; those of the limits that are charged whether or not there is
--          room; those of the limits that are charged if all have room; that of the request id of the lease, if it is prolonged
--          or forgotten; the sets of refund.lua of the limits that give back what expired leases hold.
-- ARGV[1]  two or more checks, as charge.lua reads them: what is peeked at in the end, and what is charged.
-- ARGV[2]  packed by `requests.rs`, see below.
-- ARGV[3]  what is at the end of the lease from now on, see below.
-- ARGV[4…] the channel on which usage that is given back is announced, and the name in announcements of the limit of each change.
-- Answer   `K`, the length of the lease without what follows the parts, that, and the answer to the peek. `N` if there is no
--          such lease, or not any more. `V` and the lease if it is not the version that was expected: nothing was changed.

-- What is done: nothing, an extension, an end, setting an extension back, or forgetting a lease whose check was denied.
local LOOK, EXTEND, END, SET_BACK, FORGET = 0, 1, 2, 3, 4
-- What became of a lease that was released.
local RELEASED = 2

local lease_key = KEYS[1]
local lease = lease_key:sub(-DIGEST_LETTERS)
local text = ARGV[2]
-- The version that is expected, the action, the new sequence number, ending, time to live and expiry, what is refused
-- (1: what needs room; 2: a longer life too), how many limits, limits of each kind, slots, changes and holds of refund.lua there
-- are, and how many bytes of what follows the parts stay.
local expected, action, new_seq, new_ending, new_ttl_ms, new_expires_us, refused, limits, forced, wanted, slots, changes, refunds,
  stay, at = unpack('<dBdBddBI2I2I2I2I2I2I4', text)
local first_due = #KEYS - refunds
for i = first_due + 1, #KEYS do give_back(KEYS[i]) end
local record = call('GET', lease_key)
if not record then return 'N' end
if #record < LEASE_BYTES or unpack('<I4', record) ~= LEASE_TAG then foreign(lease_key) end
local _, version, seq, ending, proceed, ttl_ms, expires_us, kept_us, life_ms, reserved_us, count =
  unpack(LEASE_STATE, record)
if now_us >= kept_us then return 'N' end

if action ~= LOOK and version ~= expected then return 'V' .. record end
local once_key = first_due >= 2 + limits + forced + wanted and KEYS[2 + limits + forced + wanted]
-- If the request id has been used again since, it is none of this lease's.
local named
if once_key then
  local kept = call('GETRANGE', once_key, 0, NAMED_BYTES + 7)
  if #kept == NAMED_BYTES + 8 and kept:sub(1, 4) == NAMED_TAG then
    local life_us, digest, first_s, first_ns = unpack(NAMED_STATE .. 'I4I4', kept, 5)
    if digest == lease then named = { life_us = life_us, from_us = first_s * 1000000 + first_ns / 1000 } end
  elseif kept ~= '' then
    foreign(once_key)
  end
end
local parts = {}
for i = 1, count do
  local from = LEASE_BYTES + 1 + (i - 1) * PART_BYTES
  parts[i] = record:sub(from, from + PART_BYTES - 1)
end
local rest = record:sub(LEASE_BYTES + 1 + count * PART_BYTES)
if action ~= LOOK then rest = rest:sub(1, stay) .. ARGV[3] end

-- The indices of the limits that are charged.
local places = {}
for i = 1, forced + wanted do places[i], at = unpack('<I2', text, at) end
-- Each slot that it holds: the part, the limit, how many slots there are, and whether the limit denies.
local held = {}
for i = 1, slots do
  local part, limit, amount, enforces
  part, limit, amount, enforces, at = unpack('<I2I2dB', text, at)
  held[i] = { part = part, key = KEYS[1 + limit], amount = amount, enforces = enforces == 1 }
end
-- Each part that changes. Of several in one limit, only the first can be prepared: the others read what it writes.
local prepared, later, announced, is_prepared = {}, {}, {}, {}
known_states = {}
for i = 1, changes do
  local part, limit, cost
  part, limit, at = unpack('<I2I2', text, at)
  local key = KEYS[1 + limit]
  local commands, state = change(key, text, at)
  if is_prepared[key] then
    known_states[key] = nil
    later[#later + 1] = { key, at }
  else
    is_prepared[key] = true
    known_states[key] = state
    if commands then prepared[#prepared + 1] = commands end
    announced[#announced + 1] = i
  end
  cost = unpack('<d', text, at + 25)
  parts[part] = cost > 0 and parts[part]:sub(1, PART_BYTES - 8) .. pack('<d', cost)
  at = at + CHANGE_BYTES
end

-- What refund.lua keeps of each hold.
local holds = {}
for i = 1, refunds do holds[i], at = text:sub(at, at + HOLD_BYTES - 1), at + HOLD_BYTES end

-- Whether the lease lives on, and whether its caller may.
local revives, granted = refused < 2, refused == 0
local is_live = ending == 0 and now_us < expires_us
for i = 1, slots do
  -- Also if it is not needed: a value of another type is an error, which must come before the first write.
  local slot = held[i]
  slot.has_room = call('ZCOUNT', slot.key, string.format('(%.0f', now_us), '+inf') < slot.amount
  if action == EXTEND and not is_live and slot.enforces and not slot.has_room then revives = false end
end
granted = granted and revives

if action == EXTEND then
  seq, proceed = new_seq, 0
  if revives then
    ttl_ms, expires_us = new_ttl_ms, now_us + up + new_ttl_ms * 1000
    kept_us = expires_us + life_ms * 1000
  end
elseif action == END then
  seq, ending, kept_us = new_seq, new_ending, now_us + up + new_ttl_ms * 1000
elseif action == SET_BACK then
  proceed = 0
  if new_expires_us > 0 then expires_us, kept_us = new_expires_us, new_expires_us + life_ms * 1000 end
end
for i = 1, slots do
  if action == END or action == EXTEND and revives and not is_live and not held[i].has_room then
    parts[held[i].part] = false
    held[i].is_freed = true
  end
end

local state
local function write()
  version = version + 1
  local all = {}
  for i = 1, count do
    if parts[i] then all[#all + 1] = parts[i] end
  end
  state = pack(LEASE_STATE, LEASE_TAG, version, seq, ending, proceed, ttl_ms, expires_us, kept_us, life_ms,
    reserved_us, #all)
    .. table.concat(all)
  call('SET', lease_key, state .. rest, 'PX', string.format('%d', ceil((kept_us - now_us) / 1000) + 1 + slack_ms))
end

local first_place
if forced + wanted > 0 then
  write_lease = function()
    for i = 1, #lease_parts, 2 do
      count = count + 1
      parts[count] = pack('<I2', places[first_place + lease_parts[i]]) .. lease_parts[i + 1]
    end
    write()
  end
end

local check_at, keys_at = checks_at, 1
-- Decides the next check of the request, or skips it.
local function next_check(skips)
  local bytes, keys = unpack('<I4I2', request, check_at)
  local from, before = check_at + 6, keys_at
  check_at, keys_at = from + bytes, before + keys
  return not skips and decide(from, before)
end

-- If the first charge is written before the second reads, the peek has to read everything before.
next_check(forced == 0 or wanted == 0)
if action == EXTEND then proceed = granted and wanted == 0 and 1 or 0 end
local first_version = version
if forced > 0 then
  lease_parts, first_place = {}, 0
  next_check()
  -- What is wanted comes on top of that.
  if #lease_parts < 2 * forced then granted = false end
end
if wanted > 0 and granted then
  local version_before = version
  proceed, lease_parts, first_place = 1, {}, forced
  next_check()
  if version == version_before then proceed = 0 end
end
lease_parts, write_lease = nil, nil
if action == FORGET then
  call('DEL', lease_key)
elseif action ~= LOOK and version == first_version then
  write()
end
if named and (action == FORGET or action == END and new_ending == RELEASED) then
  call('DEL', once_key)
elseif named and action == EXTEND and expires_us - named.from_us > named.life_us then
  -- The request id names the lease as long as it lives.
  call('PEXPIRE', once_key, string.format('%d', ceil((expires_us - now_us) / 1000) + 1 + slack_ms))
  call('SETRANGE', once_key, 4, pack('<d', expires_us - named.from_us))
end
for i = 1, #announced do call('PUBLISH', ARGV[4], ARGV[4 + announced[i]]) end
for i = 1, #prepared do apply(prepared[i]) end
for i = 1, #later do
  local commands = change(later[i][1], text, later[i][2])
  if commands then apply(commands) end
end
for i = 1, slots do
  local slot = held[i]
  local is_extended = action == EXTEND and revives or action == SET_BACK and new_expires_us > now_us
  if action == END or action == FORGET or slot.is_freed or action == SET_BACK and new_expires_us > 0 and not is_extended then
    call('ZREM', slot.key, lease)
  elseif is_extended then
    take_slot(slot.key, lease, expires_us)
  end
end
-- Each hold has a member of its set while the lease lives and holds something there.
local lives = action == EXTEND and revives
  or action == SET_BACK and (new_expires_us == 0 and is_live or new_expires_us > now_us)
for i = 1, action ~= LOOK and refunds or 0 do
  local due_key, is_held, index = KEYS[first_due + i], false, unpack('<I2', holds[i])
  for part = 1, count do is_held = is_held or parts[part] and unpack('<I2', parts[part]) == index end
  if lives and is_held then
    add_until(due_key, holds[i] .. lease_key, expires_us, life_ms)
  else
    call('ZREM', due_key, holds[i] .. lease_key)
  end
end
check_at, keys_at = checks_at, 1
local answer = next_check()
state = state or record:sub(1, LEASE_BYTES + count * PART_BYTES)
return 'K' .. pack('<I2', #state) .. state .. answer
