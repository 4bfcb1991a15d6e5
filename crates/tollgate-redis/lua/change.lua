-- Changes what one admission was charged, or refunds it.
--
-- KEYS[1]  the key of the limit.
-- KEYS[2]  the key of the request id, if the whole admission is refunded: then its answer was never sent.
-- ARGV[1]  packed by `wire.rs`: for a log the number and the timestamp of the admission, for a counter the start of its
--          window, for a token bucket the time of the admission, for a calendar the start of its period; then the old
--          and the new cost.
-- ARGV[2…] the channel on which usage that is given back is announced, and the name of the limit in announcements.
-- Answer   1 if the admission was found and changed; 0 if it was not, because it has left, was reset or changed, or
--          the usage would be above MOST_TOTAL.

local key = KEYS[1]
local hash_key = key .. 'b'
local kind, number, stamp, old, new = unpack('<Bdddd', ARGV[1])
local state = call('GETRANGE', key, STATE_FROM, '-1')
local tag = #state >= 4 and unpack('<I4', state)
if state ~= '' and tag ~= UNIT and tag ~= WEIGHTED and tag ~= COUNTER and tag ~= BUCKET and tag ~= CALENDAR then
  foreign(key)
end

-- This is the first write, so that an error changes nothing. Nobody receives it before the script ends.
local function announce()
  if new < old then call('PUBLISH', ARGV[2], ARGV[3]) end
  if KEYS[2] then call('DEL', KEYS[2]) end
end

if kind == 3 then
  if tag ~= COUNTER then return 0 end
  local _, start_s, start_ns, current, previous, window_s, window_ns = unpack(COUNTER_STATE, state)
  local next_s, next_ns = number + window_s, stamp + window_ns
  if next_ns >= 1000000000 then next_s, next_ns = next_s + 1, next_ns - 1000000000 end
  -- The window of an admission, or an earlier one to which its counts were moved when the clock stepped back.
  if (start_s < number or start_s == number and start_ns <= stamp) and current >= old then
    current = current - old + new
  elseif start_s == next_s and start_ns == next_ns and previous >= old then
    previous = previous - old + new
  else
    return 0
  end
  if current > MOST_TOTAL or previous > MOST_TOTAL then return 0 end
  announce()
  call('SET', key, pack(COUNTER_STATE, COUNTER, start_s, start_ns, current, previous, window_s, window_ns), 'KEEPTTL')
  return 1
end

if kind == 4 then
  if tag ~= BUCKET or old == 0 then return 0 end
  local start_s, start_ns, missing, refill, window_s, window_ns, since_s, since_ns = read_bucket(key, state)
  -- How long after `start` the admission was made; negative if in an earlier window.
  local at_s, at_ns = number - start_s, stamp - start_ns
  if at_ns < 0 then at_s, at_ns = at_s - 1, at_ns + 1000000000 end
  if at_s > since_s or at_s == since_s and at_ns > since_ns then return 0 end
  local changed = missing - old + new
  local produced = scaled(refill, since_s, since_ns, window_s, window_ns)
  if new < old then
    -- Without the admission, what was produced since might have found the bucket full. It is not given back.
    local windows = math.max(0, ceil(-(at_s + at_ns / 1000000000) / (window_s + window_ns / 1000000000)))
    local lost = windows * refill
    if lost - 2 * refill < old - new then
      at_s, at_ns = at_s + windows * window_s, at_ns + windows * window_ns
      at_s, at_ns = at_s + floor(at_ns / 1000000000), at_ns % 1000000000
      -- The quotient may have been rounded to the next whole number.
      if at_s < 0 then
        at_s, at_ns, lost = at_s + window_s, at_ns + window_ns, lost + refill
        if at_ns >= 1000000000 then at_s, at_ns = at_s + 1, at_ns - 1000000000 end
      elseif at_s > window_s or at_s == window_s and at_ns >= window_ns then
        at_s, at_ns, lost = at_s - window_s, at_ns - window_ns, lost - refill
        if at_ns < 0 then at_s, at_ns = at_s - 1, at_ns + 1000000000 end
      end
      lost = lost + produced - scaled(refill, at_s, at_ns, window_s, window_ns)
    end
    if lost >= old - new then return 0 end
    changed = math.max(changed + lost, produced)
  end
  if changed > MOST_TOTAL then return 0 end
  announce()
  if changed > missing and refill > 0 then
    -- It takes longer until it is full.
    local life_ms = ceil((changed - produced) * (window_s * 1000 + window_ns / 1000000) / refill) + 500
    call('PEXPIRE', key, string.format('%d', life_ms), 'GT')
  end
  call('SET', key, pack(BUCKET_STATE, BUCKET, start_s, start_ns, changed, refill, window_s, window_ns, since_s, since_ns),
    'KEEPTTL')
  return 1
end

if kind == 5 then
  if tag ~= CALENDAR then return 0 end
  local start_s, count = read_calendar(key, state)
  -- The period of the admission, or an earlier one to which its count was moved when the clock stepped back.
  if start_s > number or count < old or count - old + new > MOST_TOTAL then return 0 end
  announce()
  call('SET', key, pack(CALENDAR_STATE, CALENDAR, start_s, count - old + new), 'KEEPTTL')
  return 1
end

if tag ~= UNIT and tag ~= WEIGHTED then return 0 end
-- The string that was read; `tag` is the new tag.
local kept_tag = tag
local _, base, offset, expiry, first, next_no, head, oldest, newest, total = unpack(STATE, state)
if not is_plausible(tag, base, offset, expiry, first, next_no, head, oldest, newest, total) then foreign(key) end
if number < head or number >= next_no or old == 0 or total - old + new > MOST_TOTAL then return 0 end

-- The sums in the hash that include entry `number`, with `by` added: the fields to set.
local function with_sums(block, by)
  local group = floor(block / FANOUT)
  local over = floor(group / FANOUT)
  local kept = call('HMGET', hash_key, 'a' .. group, 'b' .. over, 'v')
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
local function newest_but_this()
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

total = total - old + new
local text_to_set, places, fields = nil, {}, nil
if number >= first then
  local width = tag == UNIT and 6 or 13
  local at = (number - first) * width
  local entry = call('GETRANGE', key, at, at + width - 1)
  local low, cost = unpack(tag == UNIT and '<I6' or '<I6I7', entry)
  if base + low ~= stamp or (tag == UNIT and 1 or cost) ~= old then return 0 end
  if tag == UNIT and new ~= 1 then
    local text = weighted(call('GETRANGE', key, 0, (next_no - first) * width - 1))
    at = (number - first) * 13
    text_to_set, tag = text:sub(1, at) .. entry_of(text, at, new) .. text:sub(at + 14), WEIGHTED
  elseif tag == WEIGHTED then
    places = { at, entry_of(entry, 0, new) }
  end
else
  local block = floor(number / BLOCK)
  local text = field(key, block)
  local width = (#text - 8) / BLOCK
  local at = 8 + number % BLOCK * width
  local low, cost = unpack(width == 6 and '<I6' or '<I6I7', text, at + 1)
  if unpack('<d', text) + low ~= stamp or (width == 6 and 1 or cost) ~= old then return 0 end
  if new ~= old then
    if width == 6 then
      text, at = text:sub(1, 8) .. weighted(text:sub(9)), 8 + number % BLOCK * 13
    end
    fields = with_sums(block, new - old)
    fields[5], fields[6] = tostring(block), text:sub(1, at) .. entry_of(text, at, new) .. text:sub(at + 14)
  end
end
if total > 0 and new == 0 and stamp == newest then newest = newest_but_this() end

announce()
if total == 0 then
  call('UNLINK', key, hash_key)
  return 1
end
local changed = pack(STATE, tag, base, offset, expiry, first, next_no, head, oldest, newest, total)
if fields then call('HSET', hash_key, spread(fields)) end
if text_to_set then
  call('SET', key, text_to_set .. changed, 'KEEPTTL')
else
  if places[1] then call('SETRANGE', key, places[1], places[2]) end
  call('SETRANGE', key, (next_no - first) * (tag == UNIT and 6 or 13), changed)
end
return 1
