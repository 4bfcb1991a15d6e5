-- Changes an entry of a log.

local field, weighted, with_sums, newest_but_this

-- The weighted entry after `at` of `text`, with the cost `cost`. A refunded entry gets the earliest timestamp, because
-- the clock may step back now, and no entry may be later than the entries after it.
local function entry_of(text, at, cost)
  if cost == 0 then return pack('<I6I7', 0, 0) end
  return text:sub(at + 1, at + 6) .. pack('<I7', cost)
end

-- The commands that change entry `number` of the log of `key`, and its new state; nil if it is not found or cannot be changed.
-- `text` is the end of the string.
local function change_log(key, text, state, tag, number, stamp, old, new)
  -- The string that was read; `tag` is the new tag.
  local kept_tag = tag
  local _, base, offset, expiry, first, next_no, head, oldest, newest, total = unpack(STATE, state)
  if not is_plausible(tag, base, offset, expiry, first, next_no, head, oldest, newest, total) then foreign(key) end
  if number < head or number >= next_no or old == 0 or total - old + new > MOST_TOTAL then return nil end
  total = total - old + new
  if number < first or new == 0 or tag == UNIT then
    if not field then field, weighted, with_sums, newest_but_this = make_change() end
  end
  local commands = {}
  local text_to_set, place, entry_to_set, after
  if number >= first then
    local width = tag == UNIT and 6 or 13
    local at = (number - first) * width
    -- Where the entry is in `text`, if it is.
    local from = #text - STATE_BYTES - (next_no - number) * width
    local entry
    if from >= 0 then
      entry, after = text:sub(from + 1, from + width), text:sub(from + width + 1, -STATE_BYTES - 1)
    else
      entry = call('GETRANGE', key, at, at + width - 1)
    end
    local low, cost = unpack(tag == UNIT and '<I6' or '<I6I7', entry)
    if base + low ~= stamp or (tag == UNIT and 1 or cost) ~= old then return nil end
    if tag == UNIT and new ~= 1 then
      text = weighted(call('GETRANGE', key, 0, (next_no - first) * width - 1))
      at = (number - first) * 13
      text_to_set, tag = text:sub(1, at) .. entry_of(text, at, new) .. text:sub(at + 14), WEIGHTED
    elseif tag == WEIGHTED then
      place, entry_to_set = at, entry_of(entry, 0, new)
    end
  else
    local block = floor(number / BLOCK)
    text = field(key, block)
    local width = (#text - 8) / BLOCK
    local at = 8 + number % BLOCK * width
    local low, cost = unpack(width == 6 and '<I6' or '<I6I7', text, at + 1)
    if unpack('<d', text) + low ~= stamp or (width == 6 and 1 or cost) ~= old then return nil end
    if new ~= old then
      if width == 6 then
        text, at = text:sub(1, 8) .. weighted(text:sub(9)), 8 + number % BLOCK * 13
      end
      local fields = with_sums(key, block, new - old)
      fields[5], fields[6] = tostring(block), text:sub(1, at) .. entry_of(text, at, new) .. text:sub(at + 14)
      commands[1] = { 'HSET', key .. 'b', spread(fields) }
    end
  end
  if total == 0 then return { { 'UNLINK', key, key .. 'b' } }, '' end
  if new == 0 and stamp == newest then
    newest = newest_but_this(key, kept_tag, base, first, next_no, head, number)
    -- From this, leases conclude for how long an admission must be kept.
    expiry = expiry - (stamp - newest)
  end
  local changed = pack(STATE, tag, base, offset, expiry, first, next_no, head, oldest, newest, total)
  if text_to_set then
    commands[#commands + 1] = { 'SET', key, text_to_set .. changed, 'KEEPTTL' }
  else
    local end_of = (next_no - first) * (tag == UNIT and 6 or 13)
    if not place then
      commands[#commands + 1] = { 'SETRANGE', key, end_of, changed }
    elseif after then
      commands[#commands + 1] = { 'SETRANGE', key, place, entry_to_set .. after .. changed }
    else
      commands[#commands + 1] = { 'SETRANGE', key, place, entry_to_set }
      commands[#commands + 1] = { 'SETRANGE', key, end_of, changed }
    end
  end
  return commands, changed
end
