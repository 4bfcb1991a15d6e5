-- What only long logs and rare events need. `make_long` wraps this file in functions, which are created when they are
-- needed: creating a function costs a script about a tenth of a command.

  -- Walks from entry `from`, which is in the hash, over everything that `skips(sum, last, many)` allows to skip: whole
  -- blocks, groups of blocks, or single entries. Returns the number and the timestamp of the entry that stopped it; nil
  -- if everything up to `first` was skipped.
  local function walk(key, from, first, skips)
    local no = from
    local group_at, group, over_at, over = -1, nil, -1, nil
    while no < first do
      local block = floor(no / BLOCK)
      local skipped = false
      if no % BLOCK == 0 then
        local group_no = floor(block / FANOUT)
        if block % FANOUT == 0 then
          local over_no = floor(group_no / FANOUT)
          if over_at ~= over_no then over_at, over = over_no, field(key, 'b' .. over_no) end
          local sum, last = unpack('<dd', over, group_no % FANOUT * RECORD_BYTES + 1)
          if skips(sum, last, true) then
            skipped, no = true, (group_no + 1) * FANOUT * BLOCK
          end
        end
        if not skipped then
          if group_at ~= group_no then group_at, group = group_no, field(key, 'a' .. group_no) end
          local sum, last = unpack('<dd', group, block % FANOUT * RECORD_BYTES + 1)
          if skips(sum, last, true) then
            skipped, no = true, no + BLOCK
          end
        end
      end
      if not skipped then
        local text = field(key, block)
        local width = (#text - 8) / BLOCK
        local base = unpack('<d', text)
        for index = no % BLOCK, BLOCK - 1 do
          local low, cost = unpack(width == 6 and '<I6' or '<I6I7', text, 9 + index * width)
          if width == 6 then cost = 1 end
          if not skips(cost, base + low, false) then return no, base + low end
          no = no + 1
        end
      end
    end
    return nil
  end

  -- The first entry in the string, from number `from` on, that `skips` does not skip: its number and timestamp.
  local function walk_string(key, tag, base, first, next_no, from, skips)
    local width, form = 6, '<I6'
    if tag == WEIGHTED then width, form = 13, '<I6I7' end
    local at = (from - first) * width
    local text = call('GETRANGE', key, at, (next_no - first) * width - 1)
    for place = 1, #text, width do
      local low, cost = unpack(form, text, place)
      if tag == UNIT then cost = 1 end
      if not skips(cost, base + low, false) then return from, base + low end
      from = from + 1
    end
    return nil
  end

  -- Skips what has left the window. Returns the number of the first entry that counts, the total from there, and its
  -- timestamp.
  local function expire(key, tag, base, first, next_no, head, total, left_by)
    local function skips(sum, last)
      if last > left_by then return false end
      total = total - sum
      return true
    end
    local no, stamp
    if head < first then no, stamp = walk(key, head, first, skips) end
    if not no then
      no, stamp = walk_string(key, tag, base, first, next_no, head < first and first or head, skips)
    end
    return no, total, stamp
  end

  -- The timestamp of the first entry from `head` on at which the sum of the costs reaches `excess`.
  local function freeing(key, tag, base, first, next_no, head, excess)
    local function skips(sum)
      if sum >= excess then return false end
      excess = excess - sum
      return true
    end
    local no, stamp
    if head < first then no, stamp = walk(key, head, first, skips) end
    if not no then
      no, stamp = walk_string(key, tag, base, first, next_no, head < first and first or head, skips)
    end
    return stamp
  end

  -- Adds the sum and timestamp of block or group `no` to its node `text`.
  local function with_record(text, no, sum, last)
    local at = no % FANOUT * RECORD_BYTES
    if #text < at then text = text .. string.rep('\0', at - #text) end
    return text:sub(1, at) .. pack('<dd', sum, last) .. text:sub(at + RECORD_BYTES + 1)
  end

  -- Moves the first block of `text`, entries of the string, to the hash: the fields to set. `is_left` says that the
  -- hash of an expired log still exists.
  local function sealed(key, text, width, base, first, has_hash)
    local entries, sum, low = text:sub(1, BLOCK * width), BLOCK, nil
    if width == 6 then
      low = unpack('<I6', entries, #entries - 5)
    else
      sum = 0
      for place = 7, #entries, width do sum = sum + unpack('<I7', entries, place) end
      low = unpack('<I6', entries, #entries - 12)
    end
    local block, last = first / BLOCK, base + low
    local group = floor(block / FANOUT)
    local over = floor(group / FANOUT)
    local group_text, over_text = '', ''
    if has_hash then
      local kept = call('HMGET', key .. 'b', 'a' .. group, 'b' .. over, 'v')
      if kept[3] ~= HASH_MARK then missing(key) end
      group_text, over_text = kept[1] or '', kept[2] or ''
    end
    local is_left = not has_hash and is_there(key)
    local group_sum = 0
    local at = group % FANOUT * RECORD_BYTES
    if #over_text > at then group_sum = unpack('<d', over_text, at + 1) end
    return {
      'v', HASH_MARK,
      tostring(block), pack('<d', base) .. entries,
      'a' .. group, with_record(group_text, block, sum, last),
      'b' .. over, with_record(over_text, group, group_sum + sum, last),
      is_left = is_left, is_new = not has_hash,
    }
  end

  -- Rewrites the string, shorter or in another form, and appends `cost`. Returns the value, its first number, tag and
  -- base, and the fields to set in the hash.
  local function rebuilt(key, tag, base, first, next_no, head, oldest, stamp, cost)
    local width = tag == UNIT and 6 or 13
    local text = call('GETRANGE', key, 0, (next_no - first) * width - 1)
    local fields
    if head - first >= BLOCK then
      local gone = floor((head - first) / BLOCK) * BLOCK
      text, first = text:sub(gone * width + 1), first + gone
    elseif next_no - first >= MOST_IN_STRING then
      fields = sealed(key, text, width, base, first, head < first)
      text, first = text:sub(BLOCK * width + 1), first + BLOCK
    end
    if tag == UNIT and cost ~= 1 then text, tag, width = weighted(text), WEIGHTED, 13 end
    if stamp - base >= MOST_AFTER_BASE then
      -- What has left may be too old for the new base; its timestamp is no longer needed.
      local moved = {}
      for place = 1, #text, width do
        local low = math.max(0, base + unpack('<I6', text, place) - oldest)
        moved[#moved + 1] = pack('<I6', low) .. text:sub(place + 6, place + width - 1)
      end
      text, base = table.concat(moved), oldest
    end
    local entry = tag == UNIT and pack('<I6', stamp - base) or pack('<I6I7', stamp - base, cost)
    return text .. entry, first, tag, base, fields
  end

  -- The fields to delete when the log's head moves from one block to another; `next` is the new `c`, if some are left
  -- over.
  local function deletable(key, from, to)
    local at = tonumber(call('HGET', key .. 'b', 'c') or from)
    local fields, last = {}, math.min(to, at + MOST_DELETED)
    for block = at, last - 1 do
      fields[#fields + 1] = tostring(block)
      local group = floor(block / FANOUT)
      if block % FANOUT == FANOUT - 1 then fields[#fields + 1] = 'a' .. group end
      if block % (FANOUT * FANOUT) == FANOUT * FANOUT - 1 then fields[#fields + 1] = 'b' .. floor(group / FANOUT) end
    end
    if last == to then fields[#fields + 1] = 'c' else fields.next = last end
    return fields
  end

  return expire, freeing, rebuilt, deletable
