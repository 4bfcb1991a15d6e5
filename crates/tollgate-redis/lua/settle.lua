-- Changes what one admission was charged, or takes it back.
--
-- KEYS[1]  the key of the limit.
-- KEYS[2]  the key of the request id, if the admission is taken back whole: then it was never answered.
-- ARGV[1]  for a log the tag, the stamp in seconds and ticks, the ticks of a second, the old and the new cost:
--          entries with one stamp and one cost are alike, so the two are the entry's id. For a counter the tag,
--          the start of the window of the admission in seconds and nanoseconds, 0, and the costs.
-- ARGV[2…] the channel on which all nodes are told when usage is given back, and what names the limit on it.
-- Answer   1 if the entry was found, 0 if it was not: it has left, or was reset or changed.

local _, kind, exponent, _, stamp_s, stamp_tick, per_s, old_cost, new_cost = unpack('<BBBBI4I4I4I7I7', ARGV[1])
  local key = KEYS[1]
  -- Before anything is written, so that an error leaves nothing half done; nobody hears of it before the end.
  if new_cost < old_cost then call('PUBLISH', ARGV[2], ARGV[3]) end
  if KEYS[2] then call('DEL', KEYS[2]) end
  local text = call('GETRANGE', key, 0, FIRST_BYTES - 1)
  if text == '' then return 0 end
  local log = open(key, text)

  if kind == COUNTER then
    if log then return 0 end
    local _, _, _, _, kept_s, kept_ns, current, previous, window_s, window_ns = unpack(COUNTER_STATE, text)
    local next_s, next_ns = stamp_s + window_s, stamp_tick + window_ns
    if next_ns >= 1000000000 then next_s, next_ns = next_s + 1, next_ns - 1000000000 end
    if kept_s == stamp_s and kept_ns == stamp_tick and current >= old_cost then
      current = current - old_cost + new_cost
    elseif kept_s == next_s and kept_ns == next_ns and previous >= old_cost then
      previous = previous - old_cost + new_cost
    else
      return 0
    end
    call('SETRANGE', key, 0,
      pack(COUNTER_STATE, MAGIC, COUNTER, 0, VERSION, kept_s, kept_ns, current, previous, window_s, window_ns))
    return 1
  end

  if not log or log.exponent ~= exponent then return 0 end
  local low, total = entry(log, log.count - 1)
  local newest = (low - log.anchor_low) % STAMPS
  local function tick(index) return newest - (low - (entry(log, index))) % STAMPS end
  local wanted = (stamp_s - log.anchor_s) * per_s + stamp_tick
  if wanted > newest or wanted < tick(log.head) then return 0 end
  local index = first_that(log.head, log.count - 1, function(one) return tick(one) >= wanted end)
  if log.kind == UNIT then
    if tick(index) ~= wanted or old_cost ~= 1 then return 0 end
    if new_cost == 1 then return 1 end
    if new_cost > 1 then
      local before = index - log.head
      rebuilt(log, log.anchor_s, log.expiry, (entries_of(log)))
      index = before
      local _
      _, total = entry(log, log.count - 1)
    else
      local at, from = HEADER_BYTES + index * 4, HEADER_BYTES + log.head * 4
      local live = log.count - log.head - 1
      if live == 0 then return call('DEL', key) end
      local kept = log.long and call('GETRANGE', key, 0, -1) or log.text
      local count = HEADER_BYTES + live * 4 < FIRST_BYTES and 0 or live
      local header = pack(HEADER, MAGIC, UNIT, exponent, VERSION, log.anchor_s, log.anchor_low, log.expiry, 0, count, 0)
      call('SET', key, header .. kept:sub(from + 1, at) .. kept:sub(at + 5), 'KEEPTTL')
      return 1
    end
  end

  local before = log.base
  if index > 0 then
    local _
    _, before = entry(log, index - 1)
  end
  while true do
    if index >= log.count or tick(index) ~= wanted then return 0 end
    local _, sum = entry(log, index)
    if (sum - before) % SUMS == old_cost then break end
    index, before = index + 1, sum
  end
  -- The sums from this entry on move by the difference.
  local moved, width = {}, log.width
  local at = HEADER_BYTES + index * width
  local rest = log.long and call('GETRANGE', key, at, -1) or log.text:sub(at + 1)
  local change = (new_cost - old_cost) % SUMS
  for from = 1, #rest, width do
    local one, sum = unpack(log.form, rest, from)
    sum = sum >= SUMS - change and sum - (SUMS - change) or sum + change
    moved[#moved + 1] = pack(log.form, one, sum)
  end
  if log.long then
    call('SETRANGE', key, at, table.concat(moved))
  else
    local count = #log.text < FIRST_BYTES and 0 or log.count
    local header = pack(HEADER, MAGIC, WEIGHTED, exponent, VERSION, log.anchor_s, log.anchor_low, log.expiry,
      log.head, count, log.cut_base)
    call('SET', key, header .. log.text:sub(HEADER_BYTES + 1, at) .. table.concat(moved), 'KEEPTTL')
  end
  return 1
