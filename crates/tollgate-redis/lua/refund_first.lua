-- Comes before charge.lua and reserve.lua if a limit of the call gives back what expired leases hold. Their number is the last
-- argument, and their sets are the last keys.

for i = #KEYS - ARGV[#ARGV] + 1, #KEYS do
  if checks == 1 then
    give_back(KEYS[i])
  else
    local done, problem = pcall(give_back, KEYS[i])
    if not done then
      -- Each check is sent again alone, and only those of the damaged key fail.
      local answers = {}
      for check = 1, checks do
        answers[check] = 'E' .. (type(problem) == 'table' and problem.err or tostring(problem))
      end
      return answers
    end
  end
end
