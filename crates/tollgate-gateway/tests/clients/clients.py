"""The Python clients of OpenAI and Anthropic with their default retries, against a gateway that scripts/clients starts."""

import os
import time
import unittest

import anthropic
import openai

URL = os.environ["GATEWAY_URL"]
MESSAGES = [{"role": "user", "content": "Hello"}]
WORDS = 20  # what the mock model answers


class Attempts:
    """The answers to one call, retries included, as the client's transport sees them."""

    def __init__(self):
        self.seen = []

    def hooks(self):
        sent = lambda request: request.extensions.update(sent_at=time.monotonic())

        def answered(response):
            now = time.monotonic()
            self.seen.append((response.request.extensions["sent_at"], now, response))

        return {"request": [sent], "response": [answered]}

    def statuses(self):
        return [response.status_code for _, _, response in self.seen]


CLIENTS = []


def tearDownModule():
    for client in CLIENTS:
        client.close()


def openai_client(key, attempts=None):
    hooks = attempts.hooks() if attempts else None
    transport = openai.DefaultHttpxClient(event_hooks=hooks) if hooks else None
    CLIENTS.append(openai.OpenAI(base_url=URL, api_key=os.environ[key], http_client=transport))
    return CLIENTS[-1]


def anthropic_client(key, attempts=None):
    hooks = attempts.hooks() if attempts else None
    transport = anthropic.DefaultHttpxClient(event_hooks=hooks) if hooks else None
    # This client appends /v1 itself.
    url = URL.removesuffix("/v1")
    CLIENTS.append(anthropic.Anthropic(base_url=url, api_key=os.environ[key], http_client=transport))
    return CLIENTS[-1]


def chat(client, **options):
    return client.chat.completions.create(model="gpt", messages=MESSAGES, **options)


def message(client, **options):
    return client.messages.create(model="gpt", messages=MESSAGES, max_tokens=50, **options)


DIALECTS = [(openai, openai_client, chat), (anthropic, anthropic_client, message)]


class Answers(unittest.TestCase):
    def test_every_call_is_answered(self):
        client = openai_client("KEY_FREE")
        answer = chat(client)
        self.assertEqual(answer.usage.completion_tokens, WORDS)
        self.assertEqual(answer.choices[0].message.content.count("word"), WORDS)
        completion = client.completions.create(model="gpt", prompt="Hello", max_tokens=50)
        self.assertEqual(completion.choices[0].text.count("word"), WORDS)
        # A completion without a cap has that of the API.
        completion = client.completions.create(model="gpt", prompt="Hello")
        self.assertEqual(completion.choices[0].text.count("word"), 16)
        response = client.responses.create(model="gpt", input="Hello")
        self.assertEqual(response.output_text.count("word"), WORDS)
        embeddings = client.embeddings.create(model="gpt", input="Hello")
        self.assertEqual(len(embeddings.data), 1)
        self.assertIn("gpt", [model.id for model in client.models.list()])
        client = anthropic_client("KEY_FREE")
        answer = message(client)
        self.assertEqual(answer.usage.output_tokens, WORDS)
        self.assertEqual(answer.content[0].text.count("word"), WORDS)
        counted = client.messages.count_tokens(model="gpt", messages=MESSAGES)
        self.assertGreater(counted.input_tokens, 0)
        self.assertIn("gpt", [model.id for model in client.models.list()])

    def test_streams_are_read_to_their_end(self):
        client = openai_client("KEY_FREE")
        options = {"include_usage": True}
        chunks = list(chat(client, stream=True, stream_options=options))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual((text.count("word"), chunks[-1].usage.completion_tokens), (WORDS, WORDS))
        # Without it, the chunk that the gateway asks for does not pass.
        self.assertTrue(all(chunk.choices for chunk in chat(client, stream=True)))
        events = list(client.responses.create(model="gpt", input="Hello", stream=True))
        self.assertEqual(events[-1].type, "response.completed")
        self.assertEqual(events[-1].response.usage.output_tokens, WORDS)
        client = anthropic_client("KEY_FREE")
        with client.messages.stream(model="gpt", messages=MESSAGES, max_tokens=50) as stream:
            self.assertEqual("".join(stream.text_stream).count("word"), WORDS)
            self.assertEqual(stream.get_final_message().usage.output_tokens, WORDS)

    def test_an_answer_that_is_cut_ends_as_at_its_cap(self):
        answer = chat(openai_client("KEY_FREE"), max_tokens=5)
        self.assertEqual(answer.choices[0].finish_reason, "length")
        answer = anthropic_client("KEY_FREE").messages.create(
            model="gpt", messages=MESSAGES, max_tokens=5
        )
        self.assertEqual(answer.stop_reason, "max_tokens")


class Denials(unittest.TestCase):
    def test_a_client_waits_as_long_as_told_and_then_succeeds(self):
        for _, make, call in DIALECTS:
            for options in [{}, {"stream": True}]:
                attempts = Attempts()
                client = make("KEY_SHORT", attempts)
                # One request in 2 s: the second is denied, unless this machine took 2 s for it.
                for _ in range(20):
                    attempts.seen.clear()
                    call(client, **options)
                    if len(attempts.seen) > 1:
                        break
                self.assertEqual(attempts.statuses(), [429, 200])
                (_, denied_at, denied), (sent_again_at, _, _) = attempts.seen
                wait_s = int(denied.headers["retry-after-ms"]) / 1000
                self.assertGreaterEqual(sent_again_at - denied_at, wait_s)

    def test_a_client_stops_at_once_if_it_would_have_to_wait_for_too_long(self):
        for library, make, call in DIALECTS:
            attempts = Attempts()
            client = make("KEY_LONG", attempts)
            with self.assertRaises(library.RateLimitError) as denied:
                for _ in range(2):
                    attempts.seen.clear()
                    call(client)
            self.assertEqual(attempts.statuses(), [429])
            headers = denied.exception.response.headers
            self.assertEqual(headers["x-should-retry"], "false")
            self.assertGreater(int(headers["retry-after"]), 60)
            self.assertIn("requests in 3600 s", str(denied.exception))

    def test_a_client_does_not_repeat_what_is_wrong(self):
        os.environ["KEY_WRONG"] = "tg_wrong"
        for library, make, call in DIALECTS:
            attempts = Attempts()
            with self.assertRaises(library.AuthenticationError):
                call(make("KEY_WRONG", attempts))
            with self.assertRaises(library.NotFoundError):
                call(make("KEY_FREE", attempts), extra_body={"model": "none"})
            self.assertEqual(attempts.statuses(), [401, 404])

    def test_a_client_tries_again_while_no_upstream_is_available(self):
        for library, make, call in DIALECTS:
            attempts = Attempts()
            with self.assertRaises(library.InternalServerError):
                call(make("KEY_FREE", attempts), extra_body={"model": "down"})
            self.assertEqual(attempts.statuses(), [503, 503, 503])


if __name__ == "__main__":
    unittest.main()
