
-- Changes an entry of a log. `make_change` wraps this file and hash.lua in a function.

  -- The sums in the hash that include entry `number`, with `by` added: the fields to set.
  local function with_sums(key, block, by)
    local group = floor(block / FANOUT)
    local over = floor(group / FANOUT)
    local kept = call('HMGET', key .. 'b', 'a' .. group, 'b' .. over, 'v')
    if not kept[1] or not kept[2] or kept[3] ~= HASH_MARK then missing(key) end
    local fields = {}
    for level, no in ipairs({ block, group }) do
      local at = no % FANOUT * RECORD_BYTES
      local sum = unpack('<d', kept[level], at + 1)
      fields[2 * level - 1] = level == 1 and 'a' .. group or 'b' .. over
      fields[2 * level] = kept[level]:sub(1, at) .. pack('<d', sum + by) .. kept[level]:sub(at + 9)
    end
    return fields
  end

  -- The timestamp of the newest entry with a cost, other than `number`. There is one.
  local function newest_but_this(key, kept_tag, base, first, next_no, head, number)
    if next_no > first then
      local width, form = 6, '<I6'
      if kept_tag == WEIGHTED then width, form = 13, '<I6I7' end
      local text = call('GETRANGE', key, 0, (next_no - first) * width - 1)
      for no = next_no - 1, math.max(first, head), -1 do
        local low, cost = unpack(form, text, (no - first) * width + 1)
        if no ~= number and (kept_tag == UNIT or cost > 0) then return base + low end
      end
    end
    -- From the end, skipping whole groups and blocks without a cost.
    local block = first / BLOCK - 1
    local group_at, group, over_at, over = -1, nil, -1, nil
    while block >= 0 do
      local group_no = floor(block / FANOUT)
      local over_no = floor(group_no / FANOUT)
      if over_at ~= over_no then over_at, over = over_no, field(key, 'b' .. over_no) end
      if unpack('<d', over, group_no % FANOUT * RECORD_BYTES + 1) == 0 then
        block = group_no * FANOUT - 1
      else
        if group_at ~= group_no then group_at, group = group_no, field(key, 'a' .. group_no) end
        if unpack('<d', group, block % FANOUT * RECORD_BYTES + 1) > 0 then
          local text = field(key, block)
          local width = (#text - 8) / BLOCK
          for index = BLOCK - 1, 0, -1 do
            local low, cost = unpack(width == 6 and '<I6' or '<I6I7', text, 9 + index * width)
            local no = block * BLOCK + index
            if no ~= number and (width == 6 or cost > 0) then return unpack('<d', text) + low end
          end
        end
        block = block - 1
      end
    end
  end

  -- The weighted entry after `at` of `text`, with the cost `cost`. A refunded entry gets the earliest timestamp, because
  -- the clock may step back now, and no entry may be later than the entries after it.
  local function entry_of(text, at, cost)
    if cost == 0 then return pack('<I6I7', 0, 0) end
    return text:sub(at + 1, at + 6) .. pack('<I7', cost)
  end

  -- The commands that change entry `number` of the log of `key`; nil if it is not found or cannot be changed.
  local function change_log(key, state, tag, number, stamp, old, new)
    -- The string that was read; `tag` is the new tag.
    local kept_tag = tag
    local _, base, offset, expiry, first, next_no, head, oldest, newest, total = unpack(STATE, state)
    if not is_plausible(tag, base, offset, expiry, first, next_no, head, oldest, newest, total) then foreign(key) end
    if number < head or number >= next_no or old == 0 or total - old + new > MOST_TOTAL then return nil end
    total = total - old + new
    local commands = {}
    local text_to_set, place, entry_to_set
    if number >= first then
      local width = tag == UNIT and 6 or 13
      local at = (number - first) * width
      local entry = call('GETRANGE', key, at, at + width - 1)
      local low, cost = unpack(tag == UNIT and '<I6' or '<I6I7', entry)
      if base + low ~= stamp or (tag == UNIT and 1 or cost) ~= old then return nil end
      if tag == UNIT and new ~= 1 then
        local text = weighted(call('GETRANGE', key, 0, (next_no - first) * width - 1))
        at = (number - first) * 13
        text_to_set, tag = text:sub(1, at) .. entry_of(text, at, new) .. text:sub(at + 14), WEIGHTED
      elseif tag == WEIGHTED then
        place, entry_to_set = at, entry_of(entry, 0, new)
      end
    else
      local block = floor(number / BLOCK)
      local text = field(key, block)
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
    if total == 0 then return { { 'UNLINK', key, key .. 'b' } } end
    if new == 0 and stamp == newest then
      newest = newest_but_this(key, kept_tag, base, first, next_no, head, number)
    end
    local changed = pack(STATE, tag, base, offset, expiry, first, next_no, head, oldest, newest, total)
    if text_to_set then
      commands[#commands + 1] = { 'SET', key, text_to_set .. changed, 'KEEPTTL' }
    else
      local end_of = (next_no - first) * (tag == UNIT and 6 or 13)
      if not place then
        commands[#commands + 1] = { 'SETRANGE', key, end_of, changed }
      elseif place + 13 == end_of then
        commands[#commands + 1] = { 'SETRANGE', key, place, entry_to_set .. changed }
      else
        commands[#commands + 1] = { 'SETRANGE', key, place, entry_to_set }
        commands[#commands + 1] = { 'SETRANGE', key, end_of, changed }
      end
    end
    return commands
  end
