
-- What only changes of long logs and rare changes need. `make_change` wraps this file and hash.lua in a function, which is
-- created when it is needed.

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

  return field, weighted, with_sums, newest_but_this
