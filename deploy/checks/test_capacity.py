"""The table of docs/CAPACITY.md is what its formulas give, and Prometheus accepts its expressions."""

import math
import re
import tempfile
import unittest
from pathlib import Path

import yaml
from chart import merged, objects, only, set_of
from project import read, run

DOCUMENT = read("docs/CAPACITY.md")
REQUESTS_A_DAY, PEAK, USED, CHUNKS = 20, 4, 0.5, 300
# Seconds of CPU, and bytes.
SERVER, REDIS, GATEWAY, CHUNK = 33e-6, 148e-6, 74e-6, 8.3e-6
HOURLY_LOG, CALENDAR, ACTIVE = 362, 170, 0.15
# Bytes, and for how many seconds there are so many: the length of a request, and a minute.
LEASE, LEASE_LIFE = 340 + 40, 10 + 60
BYTES_TO_REDIS = 1_800


def row(users):
    rate = users * REQUESTS_A_DAY / 86_400 * PEAK
    return {
        "R": rate,
        "servers": rate * SERVER / USED,
        "primaries": math.ceil(rate * REDIS / USED),
        "memory of Redis": (users * (ACTIVE * HOURLY_LOG + CALENDAR) + rate * LEASE * LEASE_LIFE) / 2**30,
        "to Redis": rate * BYTES_TO_REDIS * 8 / 1e6,
        "gateways": rate * (GATEWAY + CHUNKS * CHUNK) / USED,
    }


def number(cell):
    return float(re.match(r"[\d.,]+", cell).group().replace(",", ""))


class Capacity(unittest.TestCase):
    def test_the_table_is_what_the_formulas_give(self):
        section = DOCUMENT.split("## From one node to 100 million users")[1].split("\n## ")[0]
        lines = [line for line in section.splitlines() if line.startswith("|")]
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        self.assertEqual([cells[0] for cells in rows], ["10,000", "1 million", "10 million", "100 million"])
        for users, cells in zip((10**4, 10**6, 10**7, 10**8), rows, strict=True):
            for name, value in row(users).items():
                written = number(cells[head.index(name)])
                self.assertLess(abs(written - value), (0.004 if name == "to Redis" else 0.03) * value + 1e-9 + (0.5 if name == "R" else 0), f"{users}: {name} is {value}")

    def test_the_text_says_what_three_slots_need(self):
        needed = math.ceil(row(10**8)["R"] * 3 * REDIS / USED)
        self.assertIn(f"is 3: {needed} primaries in the last row, in place of {row(10**8)['primaries']}.", DOCUMENT)

    def test_the_smallest_load_can_do_without_redis_and_the_text_says_how(self):
        section = DOCUMENT.split("### Without Redis")[1].split("\n### ")[0]
        self.assertIn(" 1, or none ", next(line for line in DOCUMENT.splitlines() if line.startswith("| 10,000 |")))
        smallest = row(10**4)
        core = number(re.search(r"One Redis with (\S+) of a core", section).group(1))
        self.assertAlmostEqual(core, smallest["R"] * REDIS / USED, delta=5e-5)
        self.assertLess(smallest["servers"], 0.001)
        # What the text calls one server without Redis, and several with one.
        self.assertTrue(set_of("single.yaml")["store"]["url"].startswith("memory:/"))
        values = merged(set_of("redis.yaml"), {"autoscaling": {"enabled": False}, "replicaCount": 2})
        self.assertEqual(only(objects(values), "Deployment")["spec"]["replicas"], 2)

    def test_the_benchmarks_say_what_it_cites(self):
        benchmarks = read("docs/BENCHMARKS.md")
        for cited in ("64028", "29908", "| 11.9 ", "7.3 times the admission", "| 74.4 ", "| 8.30 ", "| 4.42 "):
            self.assertIn(cited, benchmarks)
        self.assertAlmostEqual(1e6 / 29_908, SERVER * 1e6, delta=1)
        self.assertAlmostEqual(11.9 * 7.3 * 1.7, REDIS * 1e6, delta=1)

    def test_prometheus_accepts_the_indicators(self):
        section = DOCUMENT.split("## Service levels")[1]
        expressions = [one.replace("\\|", "|") for one in re.findall(r"`([^`]*rate\([^`]*)`", section)]
        self.assertEqual(len(expressions), 3)
        rules = [{"record": f"level:{number}", "expr": one} for number, one in enumerate(expressions)]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rules.yaml"
            file.write_text(yaml.safe_dump({"groups": [{"name": "levels", "rules": rules}]}))
            code, text = run("promtool", "check", "rules", file)
        self.assertEqual(code, 0, text)
