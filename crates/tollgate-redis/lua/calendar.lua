
-- Calendars (R18), after bucket.lua in the same function.

  -- Returns the count of the period from `start_s` to `end_s`, whether it must be stored because the clock has stepped back, the
  -- value for a count, and, if the question is of a lease, whether the key has usage that is not counted in this calendar.
  local function read_period(key, start_s, end_s, of_lease)
    local count, stepped, is_other = 0, false, false
    local text = call('GETRANGE', key, STATE_FROM, '-1')
    local tag = #text >= 4 and unpack('<I4', text)
    if tag == CALENDAR then
      local kept_s, kept_end_s, kept = read_calendar(key, text)
      is_other = of_lease and kept_s < end_s and kept_end_s > start_s and (kept_s ~= start_s or kept_end_s ~= end_s)
      -- A later period is known if the clock has stepped back (R7), or if the policy had another calendar.
      if kept_s >= start_s and not is_other then count, stepped = kept, kept_s > start_s end
    elseif text == '' then
      must_be_missing(key)
    elseif tag ~= UNIT and tag ~= WEIGHTED and tag ~= COUNTER and tag ~= BUCKET then
      foreign(key)
    else
      is_other = of_lease
    end
    local function value(counted) return pack(CALENDAR_STATE, CALENDAR, start_s, end_s, counted) end
    return count, stepped, value, is_other
  end
