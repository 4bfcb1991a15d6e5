"""Prometheus understands every panel of the dashboard and every alert, and they name metrics that the server has."""

import json
import os
import re
import tempfile
import time
import unittest
from pathlib import Path

import yaml
from monitored import everything
from project import DEPLOY, read, run

ALERTS = DEPLOY / "monitoring" / "alerts.yaml"
DASHBOARD = DEPLOY / "monitoring" / "dashboard.json"
# Labels, which look like metrics of OpenTelemetry.
LABELS = {"gen_ai_request_model", "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_token_type"}
# Expressions that show nothing while all is well.
EMPTY_WHEN_WELL = {"Failures of the store"}
# Alerts that a busy machine can raise.
RAISED_WHEN_BUSY = {"TollgateDown", "TollgateSlow"}
# Scrapes are a second apart, so that is soon; only a machine that hangs takes so long.
DATA_WITHIN_S = 300.0


def rules():
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels():
    """The title and the expressions of each panel, as Grafana sends them."""
    variables = {"$__rate_interval": "10s", "$job": "tollgate", "$instance": ".*"}
    found = []
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


def metrics_of(expression):
    return set(re.findall(r"\b(?:tollgate|gen_ai)_[a-z0-9_]+", expression)) - LABELS


SERVER = 'job="tollgate", instance="a"'
CHECKS = (f"tollgate_checks_total{{{SERVER}, outcome=\"allowed\"}}", "0+600x60")
# For each alert: the series that raise it, and similar ones that do not. Samples are a minute apart, and the alert is asked
# for after half an hour.
CASES = {
    "TollgateDown": ([("up{job=\"tollgate\"}", "1x5 0x60")], [("up{job=\"tollgate\"}", "1x29 0x60"), ("up{job=\"other\"}", "0x60")]),
    "TollgateNotEnforcing": ([("tollgate_store_enforcing", "1x5 0x60")], [("tollgate_store_enforcing", "0x5 1x60")]),
    "TollgateDecidesWithoutTheStore": (
        [(f"tollgate_degraded_decisions_total{{{SERVER}, mode=\"allow\"}}", "0+7x60"), CHECKS],
        [(f"tollgate_degraded_decisions_total{{{SERVER}, mode=\"allow\"}}", "0+5x60"), CHECKS],
    ),
    "TollgateStoreEvicts": ([("tollgate_store_evicts", "0x5 1x60")], [("tollgate_store_evicts", "1x5 0x60")]),
    "TollgateForgetsUsage": (
        [("tollgate_store_leases_evicted_total", "0x25 1x60"), ("tollgate_store_keys_evicted_total", "0x60")],
        [("tollgate_store_leases_evicted_total", "0x5 1x60"), ("tollgate_store_keys_evicted_total", "5x60")],
    ),
    "TollgateChargesLeft": (
        [(f"tollgate_store_charges_left_total{{{SERVER}, reason=\"{reason}\"}}", "0+4x60") for reason in ("answer_lost", "not_refunded")],
        [(f"tollgate_store_charges_left_total{{{SERVER}, reason=\"answer_lost\"}}", "0+1x60")],
    ),
    "TollgateSnapshotsFail": ([("tollgate_store_snapshot_failures_total", "0x25 1x60")], [("tollgate_store_snapshot_failures_total", "7x60")]),
    "TollgateSettlementsLost": ([("tollgate_lease_settlements_dropped_total", "0x25 1x60")], [("tollgate_lease_settlements_dropped_total", "7x60")]),
    "TollgateJournalGrows": ([("tollgate_lease_journal_length", "1001x60")], [("tollgate_lease_journal_length", "1000x60")]),
    "TollgateCatalogUnavailable": ([("tollgate_catalog_up", "1x5 0x60")], [("tollgate_catalog_up", "1x28 0x60")]),
    "TollgatePoliciesRefused": ([("tollgate_policy_reloads_refused_total", "0x20 1x60")], [("tollgate_policy_reloads_refused_total", "0x5 1x60")]),
    "TollgateOtherApiKeySecret": ([("tollgate_catalog_other_api_key_secret", "1x60")], [("tollgate_catalog_other_api_key_secret", "1x5 0x60")]),
    "TollgateSlow": (
        [(f"tollgate_decision_duration_seconds_bucket{{{SERVER}, call=\"check\", le=\"{le}\"}}", f"0+{step}x60") for le, step in (("0.05", 98), ("0.1", 100), ("+Inf", 100))],
        [(f"tollgate_decision_duration_seconds_bucket{{{SERVER}, call=\"check\", le=\"{le}\"}}", f"0+{step}x60") for le, step in (("0.05", 995), ("0.1", 1000), ("+Inf", 1000))]
        # A batch may take longer.
        + [(f"tollgate_decision_duration_seconds_bucket{{{SERVER}, call=\"batch\", le=\"{le}\"}}", f"0+{step}x60") for le, step in (("0.05", 0), ("0.1", 9), ("+Inf", 9))],
    ),
    "TollgateRefusesRequests": ([("tollgate_http_requests_without_memory_total", "0x27 1x60"), ("tollgate_http_accept_errors_total", "0x60")], [("tollgate_http_accept_errors_total", "7x60")]),
    "TollgateRecordingIncomplete": ([("tollgate_record_lines_dropped_total", "0x25 1x60")], [("tollgate_record_lines_dropped_total", "0x5 1x60")]),
    "TollgateVersionsDiffer": (
        [(f"tollgate_build_info{{job=\"tollgate\", instance=\"{version}\", version=\"{version}\"}}", "1x120") for version in ("1", "2")],
        [(f"tollgate_build_info{{job=\"tollgate\", instance=\"{instance}\", version=\"1\"}}", "1x120") for instance in ("a", "b")],
    ),
    "TollgateUpstreamFails": (
        [(f"tollgate_gateway_upstream_state{{{SERVER}, upstream=\"m\", state=\"open\"}}", "1 0 0 1x60"), (f"tollgate_gateway_upstream_state{{{SERVER}, upstream=\"m\", state=\"half_open\"}}", "0 1 1 0x60")],
        [(f"tollgate_gateway_upstream_state{{{SERVER}, upstream=\"m\", state=\"limited\"}}", "1x60")],
    ),
    "TollgateGatewayErrors": (
        [(f"tollgate_gateway_requests_total{{{SERVER}, outcome=\"{outcome}\"}}", f"0+{step}x60") for outcome, step in (("completed", 94), ("no_upstream", 3), ("upstream_timeout", 3))],
        [(f"tollgate_gateway_requests_total{{{SERVER}, outcome=\"{outcome}\"}}", f"0+{step}x60") for outcome, step in (("completed", 50), ("limited", 46), ("no_upstream", 4))],
    ),
    "TollgateGatewayQueueFull": (
        [(f"tollgate_gateway_requests_total{{{SERVER}, outcome=\"queue_full\"}}", "0+1x60")],
        [(f"tollgate_gateway_requests_total{{{SERVER}, outcome=\"queue_full\"}}", "7x60")],
    ),
}
# When an alert is asked for, if not after half an hour.
ASKED_AT = {"TollgateVersionsDiffer": "90m"}


def firing(expression, rule):
    """The alert, with the labels that its expression keeps."""
    kept = re.search(r"\bby \(([^)]*)\)", rule["expr"])
    labels = dict(re.findall(r'(\w+)="([^"]*)"', expression))
    if kept:
        labels = {name: value for name, value in labels.items() if name in kept.group(1).split(", ")}
    labels.pop("le", None)
    return {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": rule["annotations"]}


def promtool_tests():
    tests = []
    for name, rule in rules().items():
        raised, quiet = CASES[name]
        for series, expected in ((raised, [firing(raised[0][0], rule)]), (quiet, [])):
            tests.append({
                "name": f"{name}, {'raised' if expected else 'quiet'}",
                "interval": "1m",
                "input_series": [{"series": one, "values": values} for one, values in series],
                "alert_rule_test": [{"eval_time": ASKED_AT.get(name, "30m"), "alertname": name, "exp_alerts": expected}],
            })
    return {"rule_files": [str(ALERTS)], "tests": tests}


class Alerts(unittest.TestCase):
    def test_prometheus_accepts_them(self):
        code, text = run("promtool", "check", "rules", ALERTS)
        self.assertEqual(code, 0, text)

    def test_each_is_raised_when_it_should_be_and_only_then(self):
        self.assertEqual(set(CASES), set(rules()))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "alerts.test.yaml"
            file.write_text(yaml.safe_dump(promtool_tests(), sort_keys=False))
            code, text = run("promtool", "test", "rules", file)
        self.assertEqual(code, 0, text)

    def test_each_is_explained(self):
        document = read("docs/OPERATING.md")
        for name in rules():
            self.assertIn(f"`{name}`", document)


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        program = os.environ.get("TOLLGATE_BIN")
        if not program:
            raise AssertionError("TOLLGATE_BIN is not set; accepted: the path of a built `tollgate`")
        context = everything(program, ALERTS)
        cls.server, cls.prometheus = cls.enterClassContext(context)

    def test_every_panel_shows_what_the_server_measures(self):
        waiting = panels()
        self.assertGreater(len(waiting), 40)
        deadline = time.monotonic() + DATA_WITHIN_S
        while waiting and time.monotonic() < deadline:
            self.server.traffic()
            still = []
            for title, expression in waiting:
                status, result = self.prometheus.ask(expression)
                self.assertEqual(status, "success", f"{title}: {expression}: {result}")
                if not result and title not in EMPTY_WHEN_WELL:
                    still.append((title, expression))
            waiting = still
            time.sleep(0.2)
        self.assertEqual(waiting, [], "these panels show nothing")

    def test_every_alert_is_evaluated(self):
        for name, rule in rules().items():
            status, result = self.prometheus.ask(rule["expr"])
            self.assertEqual(status, "success", f"{name}: {result}")

    def test_panels_and_alerts_name_only_metrics_that_exist(self):
        known = self.server.metrics()
        self.assertIn("tollgate_checks_total", known)
        named = panels() + [(name, rule["expr"]) for name, rule in rules().items()]
        for title, expression in named:
            self.assertLessEqual(metrics_of(expression), known, title)

    def test_a_healthy_server_raises_no_alert(self):
        for name in set(rules()) - RAISED_WHEN_BUSY:
            status, result = self.prometheus.ask(rules()[name]["expr"])
            self.assertEqual((status, result), ("success", []), name)
