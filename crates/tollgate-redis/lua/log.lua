  local MAGIC, UNIT, WEIGHTED, COUNTER, VERSION = 84, 1, 2, 3, 1
  local SUMS = 9007199254740992
  local HEADER, COUNTER_STATE = '<BBBBI4I4I5I4I4I7', '<BBBBI4I4I7I7I4I4'
  -- The most bytes of a log, below the 512 MB of a string.
  local MAX_BYTES = 500000000

  -- The low stamp of entry `index` and, in a weighted log, its running sum.
  local function entry(log, index)
    local at = HEADER_BYTES + index * log.width
    if not log.long or at + log.width <= FIRST_BYTES then return unpack(log.form, log.text, at + 1) end
    if at >= log.tail_at then return unpack(log.form, log.tail, at - log.tail_at + 1) end
    if at < log.chunk_at or at >= log.chunk_at + #log.chunk then
      log.chunk_at = at
      log.chunk = call('GETRANGE', log.key, at, at + log.width * CHUNK_ENTRIES - 1)
    end
    return unpack(log.form, log.chunk, at - log.chunk_at + 1)
  end

  -- A log in memory: weighted, with no dead head, of `entries` (ticks from the second `anchor_s`, and costs).
  local function rebuilt(log, anchor_s, expiry, entries)
    local texts, sum = {}, 0
    for i = 1, #entries do
      local cost = entries[i][2]
      sum = sum >= SUMS - cost and sum - (SUMS - cost) or sum + cost
      texts[i] = pack('<I4I7', entries[i][1] % STAMPS, sum)
    end
    log.kind, log.width, log.form, log.long = WEIGHTED, 11, '<I4I7', false
    log.text = string.rep('\0', HEADER_BYTES) .. table.concat(texts)
    log.anchor_s, log.anchor_low, log.expiry, log.count = anchor_s, 0, expiry, #entries
    log.head, log.base, log.cut_base = 0, 0, 0
  end

  -- Every entry from the head on: ticks from the anchor, and cost.
  local function entries_of(log)
    local entries = {}
    local low, _ = entry(log, log.count - 1)
    local newest, before = (low - log.anchor_low) % STAMPS, log.base
    for index = log.head, log.count - 1 do
      local one, sum = entry(log, index)
      entries[#entries + 1] = { newest - (low - one) % STAMPS, log.kind == UNIT and 1 or (sum - before) % SUMS }
      before = sum
    end
    return entries, newest
  end

  -- The log in `text`, the first bytes at `key`.
  local function open(key, text)
    local magic, text_kind, _, version = text:byte(1, 4)
    if #text < HEADER_BYTES or magic ~= MAGIC or version ~= VERSION or text_kind > COUNTER then
      error('TOLLGATE the key ' .. key .. ' holds what this version did not write')
    end
    if text_kind == COUNTER then return nil end
    local _, kind, exponent, _, anchor_s, anchor_low, expiry, head, count, base = unpack(HEADER, text)
    local width = kind == UNIT and 4 or 11
    local log = {
      key = key, text = text, kind = kind, width = width, form = kind == UNIT and '<I4' or '<I4I7',
      long = #text == FIRST_BYTES, exponent = exponent, expiry = expiry, anchor_s = anchor_s,
      anchor_low = anchor_low, head = head, noted_head = head, base = base, cut_base = base,
      count = count, unnoted = 0, tail = '', tail_at = 0, chunk = '', chunk_at = 0,
    }
    if log.long then
      -- A log that has just become long has not noted its entries yet.
      count = count == 0 and 1 or count
      log.tail_at = HEADER_BYTES + (count - 1) * width
      log.tail = call('GETRANGE', key, log.tail_at, -1)
      log.unnoted = #log.tail / width - 1
      log.count = count + log.unnoted
      if log.count * width > MAX_BYTES then
        error('TOLLGATE the log at ' .. key .. ' is full: it holds ' .. log.count .. ' entries')
      end
    else
      log.count = (#text - HEADER_BYTES) / width
    end
    if head > 0 and kind == WEIGHTED then
      local _, before = entry(log, head - 1)
      log.base = before
    end
    return log
  end

  -- The first entry in `from..to` for which `is_so`; that of `to` is so. Doubles, then halves.
  local function first_that(from, to, is_so)
    if is_so(from) then return from end
    local not_so, so, step = from, to, 1
    while so - not_so > 1 do
      local probe = not_so + step
      if probe >= so then
        local gap = so - not_so
        probe = not_so + (gap - gap % 2) / 2
      end
      if is_so(probe) then
        so, step = probe, to - from
      else
        not_so, step = probe, step * 2
      end
    end
    return so
  end

