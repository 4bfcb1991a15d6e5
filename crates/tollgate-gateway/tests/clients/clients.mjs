// The Node clients of OpenAI and Anthropic with their default retries, against a gateway that scripts/clients starts.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

// They are installed below the target directory.
const require = createRequire(`${process.env.CLIENTS_FOLDER}/package.json`);
const OpenAI = require("openai");
const Anthropic = require("@anthropic-ai/sdk");

const URL = process.env.GATEWAY_URL;
const MESSAGES = [{ role: "user", content: "Hello" }];
const WORDS = 20; // what the mock model answers

/** The answers to a call, retries included, as the client's transport sees them. */
class Attempts {
  seen = [];

  fetch = async (url, init) => {
    const sentAt = performance.now();
    const response = await fetch(url, init);
    this.seen.push({ sentAt, answeredAt: performance.now(), response });
    return response;
  };

  statuses() {
    return this.seen.map(({ response }) => response.status);
  }
}

function openai(key, attempts) {
  return new OpenAI({ baseURL: URL, apiKey: key, fetch: attempts?.fetch });
}

function anthropic(key, attempts) {
  // This client appends /v1 itself.
  return new Anthropic({ baseURL: URL.replace(/\/v1$/, ""), apiKey: key, fetch: attempts?.fetch });
}

function chat(client, options) {
  return client.chat.completions.create({ model: "gpt", messages: MESSAGES, ...options });
}

function message(client, options) {
  return client.messages.create({ model: "gpt", messages: MESSAGES, max_tokens: 50, ...options });
}

const DIALECTS = [
  { library: OpenAI, make: openai, call: chat },
  { library: Anthropic, make: anthropic, call: message },
];
const { KEY_FREE, KEY_SHORT, KEY_LONG } = process.env;
const words = (text) => text.split("word").length - 1;

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("every call is answered", async () => {
  const client = openai(KEY_FREE);
  const answer = await chat(client);
  assert.equal(answer.usage.completion_tokens, WORDS);
  assert.equal(words(answer.choices[0].message.content), WORDS);
  const response = await client.responses.create({ model: "gpt", input: "Hello" });
  assert.equal(words(response.output_text), WORDS);
  const embeddings = await client.embeddings.create({ model: "gpt", input: "Hello" });
  assert.equal(embeddings.data.length, 1);
  const answered = await message(anthropic(KEY_FREE));
  assert.equal(answered.usage.output_tokens, WORDS);
  assert.equal(words(answered.content[0].text), WORDS);
});

test("streams are read to their end", async () => {
  const client = openai(KEY_FREE);
  const options = { stream: true, stream_options: { include_usage: true } };
  const chunks = await all(await chat(client, options));
  const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  assert.equal(words(text), WORDS);
  assert.equal(chunks.at(-1).usage.completion_tokens, WORDS);
  const events = await all(await client.responses.create({ model: "gpt", input: "Hello", stream: true }));
  assert.equal(events.at(-1).type, "response.completed");
  const stream = anthropic(KEY_FREE).messages.stream({ model: "gpt", messages: MESSAGES, max_tokens: 50 });
  assert.equal(words(await stream.finalText()), WORDS);
});

test("a client waits as long as told and then succeeds", async () => {
  for (const { make, call } of DIALECTS) {
    const attempts = new Attempts();
    const client = make(KEY_SHORT, attempts);
    // One request in 2 s: the second is denied, unless this machine took 2 s for it.
    for (let calls = 0; calls < 20 && attempts.seen.length <= 1; calls += 1) {
      attempts.seen = [];
      await call(client);
    }
    assert.deepEqual(attempts.statuses(), [429, 200]);
    const [denied, again] = attempts.seen;
    const waitMs = Number(denied.response.headers.get("retry-after-ms"));
    // Node's timers may fire up to a millisecond early.
    assert.ok(again.sentAt - denied.answeredAt >= waitMs - 1, `${again.sentAt - denied.answeredAt} of ${waitMs} ms`);
  }
});

test("a client stops at once if it would have to wait for too long", async () => {
  for (const { library, make, call } of DIALECTS) {
    const attempts = new Attempts();
    const client = make(KEY_LONG, attempts);
    const twice = async () => {
      await call(client);
      attempts.seen = [];
      await call(client);
    };
    await assert.rejects(twice, library.RateLimitError);
    assert.deepEqual(attempts.statuses(), [429]);
    assert.equal(attempts.seen[0].response.headers.get("x-should-retry"), "false");
  }
});

test("a client does not repeat what is wrong", async () => {
  for (const { library, make, call } of DIALECTS) {
    const attempts = new Attempts();
    await assert.rejects(() => call(make("tg_wrong", attempts)), library.AuthenticationError);
    await assert.rejects(() => call(make(KEY_FREE, attempts), { model: "none" }), library.NotFoundError);
    assert.deepEqual(attempts.statuses(), [401, 404]);
  }
});

test("a client tries again while no upstream is available", async () => {
  for (const { library, make, call } of DIALECTS) {
    const attempts = new Attempts();
    await assert.rejects(() => call(make(KEY_FREE, attempts), { model: "down" }), library.InternalServerError);
    assert.deepEqual(attempts.statuses(), [503, 503, 503]);
  }
});
