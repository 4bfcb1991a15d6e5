"""The three scenarios in numbers: what is sent, which limits hold, what is bounded.

The locustfile makes this load, and the judge holds the answers against it.
"""

from __future__ import annotations

from typing import Final

SCENARIOS: Final = ("services", "upgrade", "parallel")

MODEL: Final = "gpt-4"
PAYMENTS: Final = "payments"
MARKETING: Final = "marketing"

# Every limit is per minute. No run takes that long, so all that a limit admits in a run is in one window.
WINDOW_S: Final = 60
FREE_LIMIT: Final = 10
ENTERPRISE_LIMIT: Final = 1_000
# Met by nobody: it is there so that the answers of `marketing` say what was counted.
MARKETING_LIMIT: Final = 1_000
KEY_LIMIT: Final = 2_000

# A, services: each free user asks this often for each of the two services.
FREE_USERS: Final = 100
CHECKS_PER_SERVICE: Final = 15

# B, upgrade: connections that ask for the user who is raised, and free users beside who are not.
UPGRADED_CONNECTIONS: Final = 40
BYSTANDERS: Final = 20
# So many denials, over so long, are seen before the tier is raised, and again before the run ends.
DENIALS_SEEN: Final = 500
DENIED_FOR_S: Final = 2.0
MOST_UPGRADE_CHECKS: Final = 100_000
CHANGE_HOLDS_WITHIN_S: Final = 5.0

# C, parallel: requests on one API key that are open at the same time.
PARALLEL_CHECKS: Final = 5_000
# The server refuses a body that takes 10 s; open requests are completed well before.
HOLD_OPEN_AT_MOST_S: Final = 7.0

# All three together, with what is beside them. A build of the server comes on top.
ALL_AT_MOST_S: Final = 180.0
# A run that is not through by then is stopped, and judged by what it has seen.
RUN_AT_MOST_S: Final = {"services": 25.0, "upgrade": 35.0, "parallel": 30.0}
