-- What counters, token buckets and calendars have in common.

-- amount · part / window, rounded down, and whether there is a rest. Times are seconds and nanoseconds; `part` is not longer
-- than `window`.
local function scaled(amount, part_s, part_ns, window_s, window_ns)
  local unit = (part_ns % 1000 == 0 and window_ns % 1000 == 0) and 1000 or 1
  local part = part_s * (1000000000 / unit) + part_ns / unit
  local width = window_s * (1000000000 / unit) + window_ns / unit
  if width <= MOST_TOTAL and amount * part <= MOST_TOTAL then
    local product = amount * part
    local rest = product % width
    return (product - rest) / width, rest > 0
  end
  -- Too large for one product: computed bit by bit, starting with the highest.
  local bit = 4503599627370496
  local quotient, rest_s, rest_ns = 0, 0, 0
  while bit >= 1 do
    quotient, rest_s, rest_ns = quotient * 2, rest_s * 2, rest_ns * 2
    if amount >= bit then
      amount = amount - bit
      rest_s, rest_ns = rest_s + part_s, rest_ns + part_ns
    end
    while rest_ns >= 1000000000 do rest_s, rest_ns = rest_s + 1, rest_ns - 1000000000 end
    while rest_s > window_s or rest_s == window_s and rest_ns >= window_ns do
      quotient, rest_s, rest_ns = quotient + 1, rest_s - window_s, rest_ns - window_ns
      if rest_ns < 0 then rest_s, rest_ns = rest_s - 1, rest_ns + 1000000000 end
    end
    bit = bit / 2
  end
  return quotient, rest_s > 0 or rest_ns > 0
end

-- The fields of a token bucket after its tag. Raises an error if they cannot belong together.
local function read_bucket(key, text)
  if #text ~= 42 then foreign(key) end
  local _, start_s, start_ns, missing, refill, window_s, window_ns, since_s, since_ns = unpack(BUCKET_STATE, text)
  if missing > MOST_TOTAL or refill > MOST_TOTAL or window_s + window_ns == 0
    or start_ns >= 1000000000 or window_ns >= 1000000000 or since_ns >= 1000000000
    or since_s > window_s or since_s == window_s and since_ns >= window_ns then
    foreign(key)
  end
  return start_s, start_ns, missing, refill, window_s, window_ns, since_s, since_ns
end

-- The fields of a calendar after its tag.
local function read_calendar(key, text)
  if #text ~= 19 then foreign(key) end
  local _, start_s, end_s, count = unpack(CALENDAR_STATE, text)
  if count > MOST_TOTAL or start_s >= end_s then foreign(key) end
  return start_s, end_s, count
end
