"""The gateway before a real model, called by the clients of OpenAI and Anthropic. scripts/test-model starts both.

A model answers what it likes, so the tests compare counts: what the model reports, what the client gets, what is charged.
"""

import itertools
import json
import os
import threading
import time
import unittest
import urllib.request

import anthropic
import openai

URL = os.environ["GATEWAY_URL"]
ADMIN = os.environ["ADMIN_URL"]
MODEL = os.environ["MODEL_URL"]
MESSAGES = [{"role": "user", "content": "Write a long story about a river."}]
PATIENCE_S = 300


def post(url, body, **headers):
    headers = {"content-type": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def admin(path, body):
    return post(f"{ADMIN}/admin/{path}", body, authorization=f"Bearer {os.environ['ADMIN_TOKEN']}")


class Tenant:
    """A tenant with limits of its own: `tokens` in an hour, `output` of the output, and `slots` at a time."""

    def __init__(self, name, tokens=100_000, output=100_000):
        admin("tenants", {"id": name})
        units = [("tokens", tokens), ("input_tokens", 100_000), ("output_tokens", output)]
        for unit, limit in units:
            window = {"unit": unit, "limit": limit, "windowSeconds": 3600}
            self.policy(name, unit, window)
        self.policy(name, "slots", {"unit": "concurrency", "limit": 50})
        self.key = admin("api-keys", {"id": name, "tenantId": name})["key"]
        self.name = name
        self.openai = openai.OpenAI(base_url=URL, api_key=self.key, timeout=PATIENCE_S)
        url = URL.removesuffix("/v1")
        self.anthropic = anthropic.Anthropic(base_url=url, api_key=self.key, timeout=PATIENCE_S)

    @staticmethod
    def policy(name, suffix, fields):
        of = {"id": f"{name}-{suffix}", "per": ["tenant"], "match": {"tenant": name}}
        admin("policies", {**of, **fields})

    def used(self):
        """What is charged, by unit, when no lease is open."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            limits = post(f"{ADMIN}/rate-limit/peek", {"apiKey": self.key})["limits"]
            used = {limit["policyId"].removeprefix(f"{self.name}-"): limit["count"] for limit in limits}
            if used["slots"] == 0 or time.monotonic() > deadline:
                return used
            time.sleep(0.05)

    def close(self):
        self.openai.close()
        self.anthropic.close()


class Model(unittest.TestCase):
    numbers = itertools.count()

    def tenant(self, **limits):
        tenant = Tenant(f"t{next(self.numbers)}", **limits)
        self.addCleanup(tenant.close)
        return tenant

    def assertCharged(self, tenant, input_tokens, output_tokens):
        used = tenant.used()
        expected = [input_tokens, output_tokens, input_tokens + output_tokens, 0]
        units = ["input_tokens", "output_tokens", "tokens", "slots"]
        self.assertEqual([used[unit] for unit in units], expected)

    def test_what_the_model_reports_of_a_chat_is_charged(self):
        tenant = self.tenant()
        answer = tenant.openai.chat.completions.create(model="smollm", messages=MESSAGES, max_tokens=8)
        self.assertEqual((answer.usage.completion_tokens, answer.choices[0].finish_reason), (8, "length"))
        self.assertCharged(tenant, answer.usage.prompt_tokens, 8)

    def test_what_the_model_reports_of_a_stream_is_charged(self):
        tenant = self.tenant()
        chunks = list(
            tenant.openai.chat.completions.create(
                model="smollm", messages=MESSAGES, max_tokens=8, stream=True, stream_options={"include_usage": True}
            )
        )
        usage = chunks[-1].usage
        self.assertEqual(usage.completion_tokens, 8)
        self.assertCharged(tenant, usage.prompt_tokens, 8)

    def test_usage_that_the_client_did_not_ask_for_is_charged_and_not_passed(self):
        tenant = self.tenant()
        options = {"model": "smollm", "messages": MESSAGES, "max_tokens": 8, "stream": True}
        chunks = list(tenant.openai.chat.completions.create(**options))
        self.assertTrue(all(chunk.choices and chunk.usage is None for chunk in chunks))
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
        self.assertEqual(tenant.used()["output_tokens"], 8)

    def test_what_the_model_reports_of_a_completion_is_charged(self):
        tenant = self.tenant()
        answer = tenant.openai.completions.create(model="smollm", prompt="One, two, three,", max_tokens=8)
        self.assertCharged(tenant, answer.usage.prompt_tokens, answer.usage.completion_tokens)

    def test_what_the_model_reports_of_responses_is_charged(self):
        tenant = self.tenant()
        answer = tenant.openai.responses.create(model="smollm", input="Tell me about rivers.", max_output_tokens=8)
        counted = [answer.usage]
        for event in tenant.openai.responses.create(
            model="smollm", input="Tell me about rivers.", max_output_tokens=8, stream=True
        ):
            if event.type == "response.completed":
                counted.append(event.response.usage)
        self.assertEqual(len(counted), 2)
        self.assertCharged(
            tenant, sum(usage.input_tokens for usage in counted), sum(usage.output_tokens for usage in counted)
        )

    def test_what_the_model_reports_of_messages_is_charged(self):
        tenant = self.tenant()
        options = {"model": "smollm", "messages": MESSAGES, "max_tokens": 8}
        answer = tenant.anthropic.messages.create(**options)
        with tenant.anthropic.messages.stream(**options) as stream:
            streamed = stream.get_final_message()
        self.assertEqual((answer.stop_reason, streamed.stop_reason), ("max_tokens", "max_tokens"))
        counted = [answer.usage, streamed.usage]
        # What was read from the cache is counted apart in this dialect.
        read = [usage.input_tokens + (usage.cache_read_input_tokens or 0) for usage in counted]
        self.assertCharged(tenant, sum(read), sum(usage.output_tokens for usage in counted))

    def test_counting_tokens_uses_none(self):
        tenant = self.tenant()
        counted = tenant.anthropic.messages.count_tokens(model="smollm", messages=MESSAGES)
        self.assertGreater(counted.input_tokens, 0)
        self.assertCharged(tenant, 0, 0)

    def test_a_stream_ends_at_its_limit(self):
        tenant = self.tenant(output=12)
        chunks = list(
            tenant.openai.chat.completions.create(model="uncapped", messages=MESSAGES, stream=True)
        )
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
        used = tenant.used()
        # The text is counted, because a stream that is cut reports nothing: at least one token for each frame.
        self.assertTrue(8 <= used["output_tokens"] <= 24, used)
        with self.assertRaises(openai.RateLimitError) as denied:
            tenant.openai.chat.completions.create(model="smollm", messages=MESSAGES, max_tokens=8)
        self.assertEqual(denied.exception.response.headers["x-should-retry"], "false")

    def test_a_client_that_leaves_stops_the_model(self):
        tenant = self.tenant()
        stream = tenant.openai.chat.completions.create(
            model="smollm", messages=MESSAGES, max_tokens=900, stream=True, extra_body={"ignore_eos": True}
        )
        for _, _ in zip(range(4), stream):
            pass
        stream.close()
        used = tenant.used()
        self.assertTrue(used["slots"] == 0 and 1 <= used["output_tokens"] <= 200, used)
        deadline = time.monotonic() + 60
        while self.busy_slots() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual(self.busy_slots(), 0)

    def busy_slots(self):
        with urllib.request.urlopen(f"{MODEL}/slots", timeout=PATIENCE_S) as answer:
            return sum(slot["is_processing"] for slot in json.load(answer))

    def test_requests_wait_for_the_only_slot(self):
        tenant = self.tenant()
        usages = []

        def ask():
            answer = tenant.openai.chat.completions.create(model="narrow", messages=MESSAGES, max_tokens=4)
            usages.append(answer.usage)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(usages), 3)
        self.assertCharged(
            tenant, sum(usage.prompt_tokens for usage in usages), sum(usage.completion_tokens for usage in usages)
        )


if __name__ == "__main__":
    unittest.main(verbosity=2)
