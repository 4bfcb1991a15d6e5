-- Decides one check at one moment, and charges all its limits or none (R1-R3, R6-R10, R12), except that limits with
-- `over_limit` charge record the cost of a denied check too (R19).
--
-- All commands that read come before all commands that write, so that an error leaves nothing half done. If checks of one
-- call share a log, its state is read once, and the entries that they append are written together (`kept_logs`).

local TERMS_BYTES = 33

-- The functions of long.lua, counter.lua, bucket.lua and calendar.lua, created when they are first needed.
local expire, freeing, rebuilt, deletable, read_counter, read_bucket_at, read_period
local KEYS = KEYS

-- The logs to which several checks of this call append, by key: the ten fields of the state, then the position at which
-- the unwritten entries begin, then these entries.
local kept_logs, may_write = {}, false

-- Writes the unwritten entries of the log of `key`.
local function write_out(key)
  local kept = kept_logs[key]
  if kept then
    call('SETRANGE', key, kept[11], table.concat(kept, '', 12) .. pack(STATE, spread(kept, 1, 10)))
    kept_logs[key] = nil
  end
end

-- For each limit, what is written at the end of the string, and its position. Empty between checks.
local tails, starts = {}, {}
-- A life in ms, and as the text that Redis wants: many keys of a call live equally long.
local last_life_ms, last_life

-- If the check is to become a lease: `lease_parts` gets the index of each limit that is charged and its part, `lease_slots` the
-- keys of the slots that it takes, and `write_lease` is called before anything else is written.
local lease_parts, lease_slots, write_lease
-- The states of logs that this call has written.
local known_states

-- Decides the check that is encoded at `at`; its keys follow KEYS[before].
local function decide(at, before)
  local limits, options, not_after, once_us = unpack('<I2Bdd', request, at)
  at = at + 19
  -- With a request id: what it asks of each limit, and what these are. Its repetition, which may ask for something else or
  -- come when a policy was changed, gets the first answer, which only `wire.rs` can read, and only with this.
  local terms
  if options >= 2 then
    terms = request:sub(at, at + TERMS_BYTES * limits - 1)
    at = at + TERMS_BYTES * limits
  end
  local charging = options % 2 == 1
  if not_after > 0 and now_us > not_after then return 'L' end
  local once_key = options >= 2 and KEYS[before + limits + 1]
  if once_key then
    local first_answer = call('GET', once_key)
    if first_answer then
      if first_answer:sub(1, 4) ~= 'T\4\0\4' or #first_answer ~= 12 + (41 + TERMS_BYTES) * limits then
        foreign(once_key)
      end
      local first_s, first_ns = unpack('<I4I4', first_answer, 5)
      if (now_s - first_s) * 1000000 + (now_ns - first_ns) / 1000 < once_us then return first_answer:sub(5) end
    end
  end

  local allowed, answer = true, nil
  if next(tails) then tails, starts = {}, {} end
  -- By limit, and rarely set: the whole string to write instead of a tail, the expiry of the keys, what to write if
  -- nothing is charged, whether there is a hash, and its fields. `shared` is the new value for `kept_logs`.
  local values, lives, notes, hashed, sets, deletes, shared
  -- By limit: whether it is charged even if the check is denied. `remembers` is set if there may be one.
  local recorded, remembers = nil, false
  for i = 1, limits do
    local key = KEYS[before + i]
    local mode, limit, cost, ttl_ms, window = unpack('<Bdddd', request, at)
    at = at + 33
    -- The most that the usage may be after a denied cost was recorded.
    local most
    -- Whether a lease asks, whose policy may have changed since: then nothing is forgotten that checks count.
    local of_lease = mode >= 128
    if of_lease then mode = mode - 128 end
    local has_slots = mode >= 64
    if has_slots then mode = mode - 64 end
    if mode >= 32 then
      mode = mode - 32
      most, at = unpack('<d', request, at)
      if charging and cost > 0 then remembers = true else most = nil end
    end
    local is_calendar = mode >= 16
    if is_calendar then mode = mode - 16 end
    local is_bucket = mode >= 8
    if is_bucket then mode = mode - 8 end
    -- Whether a later check of this call uses the same log.
    local comes_again = mode >= 4
    if comes_again then mode = mode - 4 end
    local needed = cost == 0 and 1 or cost
    local admits, usage, newest_after, freeing_after, number, stamp = false, 0, 0, 0, 0, 0
    -- The usage before the check, if `usage` is not that.
    local used
    -- Whether the key has admissions that count, and whether it has usage that is none of the lease's.
    local has_log, is_other = false, false
    if has_slots then
      usage = call('ZCOUNT', key, string.format('(%.0f', now_us), '+inf')
      if usage > 0 then
        newest_after = call('ZRANGE', key, -1, -1, 'WITHSCORES')[2] + 0
        if usage >= limit and limit > 1 then
          -- When it has expired, there are as many as may be, less one.
          freeing_after = call('ZRANGE', key, -limit, -limit, 'WITHSCORES')[2] + 0
        else
          freeing_after = newest_after
        end
      end
      admits = needed <= limit - usage
      if not admits and mode == 0 then allowed = false end
      if admits and lease_slots then lease_slots[#lease_slots + 1] = i end
    elseif mode < 2 then
      if most and kept_logs[key] then write_out(key) end
      local kept = kept_logs[key]
      local state = kept or known_states and known_states[key] or call('GETRANGE', key, STATE_FROM, '-1')
      local tag, base, offset, expiry, first, next_no, head, oldest, newest, total
      local now, life_ms, had_hash, has_hash = now_us, nil, false, false
      -- Whether an admission is appended, and for how long the key must live after it.
      local is_kept, kept_for = false, window
      if state ~= '' then
        if kept then
          tag, base, offset, expiry, first, next_no, head, oldest, newest, total = spread(kept, 1, 10)
        elseif #state == STATE_BYTES then
          tag, base, offset, expiry, first, next_no, head, oldest, newest, total = unpack(STATE, state)
          if (tag == UNIT or tag == WEIGHTED)
            and not is_plausible(tag, base, offset, expiry, first, next_no, head, oldest, newest, total) then
            foreign(key)
          end
        end
        if tag == UNIT or tag == WEIGHTED then
          had_hash = head < first
          has_hash = had_hash
          now = now_us + offset
          if of_lease and expiry - newest > window then
            kept_for = expiry - newest
            if ttl_ms * 1000 < kept_for then ttl_ms = ceil(kept_for / 1000) end
          end
          if newest > now + up then
            -- The clock has stepped back, so the newest admission counts as made now (R7).
            offset = offset + newest - now - up
            now, life_ms = newest - up, ttl_ms
          end
          has_log = newest + window > now
          is_kept = has_log or of_lease
        else
          local other = #state >= 4 and unpack('<I4', state)
          if other ~= COUNTER and other ~= BUCKET and other ~= CALENDAR then foreign(key) end
          is_other = of_lease
        end
      else
        must_be_missing(key)
      end
      local old_head, old_oldest = head, oldest
      if has_log then
        usage = total
        if oldest + window <= now then
          if kept then kept = write_out(key) end
          if had_hash then
            if not expire then expire, freeing, rebuilt, deletable = make_long() end
            head, usage, oldest = expire(key, tag, base, first, next_no, head, total, now - window)
            has_hash = head < first
          else
            local width = tag == UNIT and 6 or 13
            local text, place = '', 1
            while true do
              if place > #text then
                local from = (head - first) * width
                text, place = call('GETRANGE', key, from, from + READ_AHEAD * width - 1), 1
              end
              local low, one = unpack(tag == UNIT and '<I6' or '<I6I7', text, place)
              oldest = base + low
              if oldest + window > now then break end
              usage = usage - (tag == UNIT and 1 or one)
              head, place = head + 1, place + width
            end
          end
          -- The newest entry counts.
          if not (oldest <= newest and head < next_no and usage >= 1) then foreign(key) end
        end
        newest_after = newest - now
        -- If the window is longer than at the last admission, the key lives longer; if it is shorter, less long.
        if not of_lease and (newest + window > expiry or expiry - now > ttl_ms * 1000) then life_ms = ttl_ms end
        if life_ms then
          expiry = now + life_ms * 1000
          notes = notes or {}
          notes[i] = {
            (next_no - first) * (tag == UNIT and 6 or 13),
            pack(STATE, tag, base, offset, expiry, first, next_no, old_head, old_oldest, newest, total),
          }
        end
      end

      -- What a lease used is charged as far as the usage can hold it (R14).
      if of_lease and most and usage <= most and cost > most - usage then cost = most - usage end
      admits = usage <= limit and needed <= limit - usage
      local records = most and usage <= most and cost <= most - usage
      -- What the log has afterwards without the cost.
      local kept_total = usage
      if of_lease and is_kept then
        head, oldest, has_hash, kept_total = old_head, old_oldest, had_hash, total
        if cost > MOST_TOTAL - total then
          if records then cost = MOST_TOTAL - total else admits = false end
        end
      end
      if not admits and mode == 0 then allowed = false end
      -- What must leave before the cost fits: for a cost that is recorded in any case, before it fits once more.
      local excess = usage + (records and cost or 0) - (limit - needed)
      if excess > 0 and needed <= limit and (has_log or records) and not of_lease then
        if excess > usage then
          -- Nothing may stay, this cost included.
          freeing_after = up
        else
          if kept then kept = write_out(key) end
          local freed
          if tag == UNIT and head >= first then
            local from = (head - first + excess - 1) * 6
            freed = base + unpack('<I6', call('GETRANGE', key, from, from + 5))
          else
            if not expire then expire, freeing, rebuilt, deletable = make_long() end
            freed = freeing(key, tag, base, first, next_no, head, excess)
          end
          freeing_after = freed - now
        end
      end
      if admits or records then
        if records then
          recorded = recorded or {}
          recorded[i] = true
        end
        if charging and cost > 0 and not is_other then
          if is_kept then
            local now_has_hash = false
            number, stamp = next_no, now + up
            if stamp + kept_for > expiry then
              life_ms = ttl_ms
              expiry = now + life_ms * 1000
            end
            if cost ~= 1 and tag == UNIT or head - first >= BLOCK or next_no - first >= MOST_IN_STRING
              or stamp - base >= MOST_AFTER_BASE then
              if kept then kept = write_out(key) end
              if not expire then expire, freeing, rebuilt, deletable = make_long() end
              local text, fields
              text, first, tag, base, fields = rebuilt(key, tag, base, first, next_no, head, oldest, stamp, cost)
              values, sets = values or {}, sets or {}
              sets[i] = fields
              values[i] = text
                .. pack(STATE, tag, base, offset, expiry, first, next_no + 1, head, oldest, stamp, kept_total + cost)
              if fields then
                -- A new hash needs an expiry.
                if not has_hash then life_ms = life_ms or ceil((expiry - now) / 1000) end
                now_has_hash = true
              end
            elseif kept or comes_again then
              local at, entry = (next_no - first) * (tag == UNIT and 6 or 13), nil
              if tag == UNIT then entry = pack('<I6', stamp - base) else entry = pack('<I6I7', stamp - base, cost) end
              if kept and limits == 1 and not (life_ms or once_key) then
                kept[6], kept[9], kept[10], kept[#kept + 1] = next_no + 1, stamp, kept_total + cost, entry
              else
                shared = shared or {}
                shared[i] = { tag, base, offset, expiry, first, next_no + 1, head, oldest, stamp, kept_total + cost, at, entry }
              end
            elseif tag == UNIT then
              starts[i] = (next_no - first) * 6
              tails[i] = pack('<I6I4ddddddddd', stamp - base, tag, base, offset, expiry, first, next_no + 1, head,
                oldest, stamp, kept_total + 1)
            else
              starts[i] = (next_no - first) * 13
              tails[i] = pack('<I6I7I4ddddddddd', stamp - base, cost, tag, base, offset, expiry, first, next_no + 1,
                head, oldest, stamp, kept_total + cost)
            end
            if had_hash and head > old_head then
              deletes = deletes or {}
              deletes[i] = has_hash and deletable(key, floor(old_head / BLOCK), floor(head / BLOCK)) or 'all'
            end
            has_hash = has_hash or now_has_hash
          else
            stamp, life_ms = now_us + up, ttl_ms
            if had_hash then
              deletes, has_hash = deletes or {}, false
              deletes[i] = 'all'
            end
            tag = cost == 1 and UNIT or WEIGHTED
            values = values or {}
            values[i] = (cost == 1 and pack('<I6', 0) or pack('<I6I7', 0, cost))
              .. pack(STATE, tag, stamp, 0, now_us + ttl_ms * 1000, 0, 1, 0, stamp, stamp, cost)
          end
        end
      end
      if kept and (life_ms or values and values[i]) then kept = write_out(key) end
      if life_ms then
        lives = lives or {}
        lives[i] = life_ms
        if had_hash or has_hash then
          hashed = hashed or {}
          hashed[i] = { had_hash, has_hash }
        end
      end
    else
      if not read_counter then read_counter, read_bucket_at, read_period = make_tallies(now_s, now_ns) end
      local total, stepped, value
      if is_calendar then
        local place
        place, at = unpack('<I2', request, at)
        newest_after, freeing_after = period_starts[place], period_ends[place]
        usage, stepped, value, is_other = read_period(key, newest_after, freeing_after, of_lease)
        total = usage
        -- Not before the end of the period, by the clock that expires keys: it may have been read a little earlier.
        ttl_ms = freeing_after * 1000 - floor(now_us / 1000) + 500
      else
        local window_s, window_ns, hint_s, hint_ns
        window_s, window_ns, hint_s, hint_ns, at = unpack('<I4I4I4I4', request, at)
        if is_bucket then
          local refill
          refill, at = unpack('<d', request, at)
          total, usage, stepped, value, ttl_ms, is_other =
            read_bucket_at(key, cost, window_s, window_ns, hint_s, hint_ns, refill, ttl_ms, of_lease)
        else
          total, usage, newest_after, stepped, value, is_other =
            read_counter(key, window_s, window_ns, hint_s, hint_ns, of_lease)
        end
      end
      used = total
      if of_lease and most and total <= most and cost > most - total then cost = most - total end
      admits = total <= limit and needed <= limit - total
      if most and total <= most and cost <= most - total then
        recorded = recorded or {}
        recorded[i] = true
      end
      if charging and cost > 0 and not is_other and (admits or recorded and recorded[i]) then
        values = values or {}
        values[i] = value(usage + cost)
      end
      if stepped then
        notes = notes or {}
        notes[i] = value(usage)
      end
      lives = lives or {}
      lives[i] = ttl_ms
      if not admits and mode == 2 then allowed = false end
    end
    if lease_parts and cost > 0 and (admits or recorded and recorded[i]) then
      lease_parts[#lease_parts + 1] = i
      local part_number, part_stamp = number, stamp
      -- Of a calendar the period.
      if is_calendar then part_number, part_stamp = newest_after, freeing_after end
      if is_other then
        -- No admission has this number, no period ends then, and a bucket gives nothing back.
        part_number, part_stamp, used = is_calendar and 0 or MOST_TOTAL, 0, -cost
      end
      lease_parts[#lease_parts + 1] = pack('<ddI4I4dd', part_number, part_stamp, now_s, now_ns, (used or usage) + cost, cost)
    end
    local answer_flags = (admits and 1 or 0) + (has_log and 2 or 0) + (recorded and recorded[i] and 4 or 0)
    if answer then
      answer = answer .. pack('<Bddddd', answer_flags, usage, newest_after, freeing_after, number, stamp)
    else
      answer = pack('<I4I4Bddddd', now_s, now_ns, answer_flags, usage, newest_after, freeing_after, number, stamp)
    end
  end

  answer = answer or pack('<I4I4', now_s, now_ns)
  local charged = charging and allowed
  if charged and write_lease then write_lease(answer) end
  if charging and not allowed then
    for i in next, tails do
      if not (recorded and recorded[i]) then tails[i] = nil end
    end
    if values then
      for i in next, values do
        if not (recorded and recorded[i]) then values[i] = nil end
      end
    end
  end
  if charged and shared then
    local put_off = not (lives or values or deletes or once_key)
    for i, log in next, shared do
      local key = KEYS[before + i]
      if put_off then
        -- Try once whether it can be written later: if one SETRANGE is permitted, all are.
        if not may_write then call('SETRANGE', key, 0, '') end
        may_write = true
        local kept = kept_logs[key]
        if kept then
          for field = 1, 10 do kept[field] = log[field] end
          kept[#kept + 1] = log[12]
        else
          kept_logs[key] = log
        end
      else
        write_out(key)
        starts[i], tails[i] = log[11], log[12] .. pack(STATE, spread(log, 1, 10))
      end
    end
  end
  -- If a command is refused (its right was revoked), nothing may have been charged. Therefore every expiry is set
  -- before the admission that relies on it, and strings that are written as a whole come before the others. Whether the
  -- others can be written was tried before, with an empty value.
  if values and next(values) and next(tails) then call('SETRANGE', KEYS[before + next(tails)], 0, '') end
  if lives then
    for i in next, tails do
      if lives[i] then call('PEXPIRE', KEYS[before + i], lives[i] + slack_ms) end
    end
  end
  for i = 1, limits do
    local key, life_ms = KEYS[before + i], lives and lives[i]
    local value, fields, gone = values and values[i], sets and sets[i], deletes and deletes[i]
    if value or tails[i] then
      if gone == 'all' then
        call('UNLINK', key .. 'b')
      elseif gone then
        call('HDEL', key .. 'b', spread(gone))
        if gone.next then call('HSET', key .. 'b', 'c', gone.next) end
      end
      if fields then
        if fields.is_left then call('UNLINK', key .. 'b') end
        call('HSET', key .. 'b', spread(fields))
      end
      if life_ms and hashed and hashed[i] and hashed[i][2] then
        local given = redis.pcall('PEXPIRE', key .. 'b', life_ms + slack_ms + HASH_OUTLIVES_MS)
        if type(given) == 'table' then
          -- No key may exist without an expiry.
          if fields and fields.is_new then call('UNLINK', key .. 'b') end
          error(given)
        end
      end
      if value and life_ms then
        if life_ms ~= last_life_ms then
          last_life_ms, last_life = life_ms, string.format('%d', life_ms + slack_ms)
        end
        call('SET', key, value, 'PX', last_life)
      elseif value then
        call('SET', key, value, 'KEEPTTL')
      end
    elseif notes and notes[i] then
      local note = notes[i]
      if type(note) == 'table' then
        call('PEXPIRE', key, life_ms + slack_ms)
        if hashed and hashed[i] and hashed[i][1] then
          call('PEXPIRE', key .. 'b', life_ms + slack_ms + HASH_OUTLIVES_MS)
        end
        call('SETRANGE', key, note[1], note[2])
      else
        call('SET', key, note, 'PX', life_ms + slack_ms)
      end
    end
  end
  for i, tail in next, tails do
    call('SETRANGE', KEYS[before + i], starts[i], tail)
    tails[i] = nil
  end
  if once_key and (charged or remembers) then
    call('SET', once_key, 'T\4\0\4' .. answer .. terms, 'PX', ceil(once_us / 1000) + 1 + slack_ms)
  end
  return answer
end
