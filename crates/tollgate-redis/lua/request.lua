-- The beginning of every request: what the time is, and the periods of calendars that it needs.

local request = ARGV[1]
local flags, checks, calendars, checks_at = unpack('<BBI2', request)
local now_s, now_ns, slack_ms
local now_us, up = 0, 0
if flags == 0 then
  local time = call('TIME')
  now_s, now_ns, slack_ms = time[1] + 0, time[2] * 1000, 0
  now_us = now_s * 1000000 + time[2]
else
  now_s, now_ns, slack_ms, checks_at = unpack('<I4I4I4', request, checks_at)
  local us = floor(now_ns / 1000)
  now_us = now_s * 1000000 + us
  -- The time of an admission is rounded up, and the current time is rounded down.
  if now_ns > us * 1000 then up = 1 end
end

-- For each calendar, the start and the end of the current period. The request has two periods that meet.
local period_starts, period_ends = {}, {}
for i = 1, calendars do
  local start_s, next_s, end_s
  start_s, next_s, end_s, checks_at = unpack('<I4I4I4', request, checks_at)
  if now_s < start_s or now_s >= end_s then return 'P' .. pack('<I4I4', now_s, now_ns) end
  if now_s < next_s then
    period_starts[i], period_ends[i] = start_s, next_s
  else
    period_starts[i], period_ends[i] = next_s, end_s
  end
end
