
-- Calendars (R18), after bucket.lua in the same function.

  -- Returns the count of the period that starts at `start_s`, whether it must be stored because the clock has stepped back, and
  -- the value for a count.
  local function read_period(key, start_s)
    local count, stepped = 0, false
    local text = call('GETRANGE', key, STATE_FROM, '-1')
    local tag = #text >= 4 and unpack('<I4', text)
    if tag == CALENDAR then
      local kept_s, kept = read_calendar(key, text)
      -- A later period is known if the clock has stepped back (R7), or if the policy had another calendar.
      if kept_s >= start_s then count, stepped = kept, kept_s > start_s end
    elseif text == '' then
      must_be_missing(key)
    elseif tag ~= UNIT and tag ~= WEIGHTED and tag ~= COUNTER and tag ~= BUCKET then
      foreign(key)
    end
    local function value(counted) return pack(CALENDAR_STATE, CALENDAR, start_s, counted) end
    return count, stepped, value
  end
