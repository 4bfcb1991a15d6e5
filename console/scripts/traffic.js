// Replays a trace of inference requests as checks to a server, for a bounded time. At its own times, 20 times as fast:
//   npm run traffic -- --url http://127.0.0.1:8000 --speed 20 --seconds 60 --trace FILE.csv
// or its tokens alone, at a steady rate:
//   npm run traffic -- --url http://127.0.0.1:8000 --rate 100 --seconds 60 --trace FILE.csv
// The traces are in data/azure-llm-inference-2023. A trace names nobody, so users and models are drawn with a seed: few users ask much, most ask little. Without a
// trace, costs are drawn likewise.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const MAX_RATE = 5_000;
const MAX_SPEED = 1_000;
const MAX_SECONDS = 3_600;
/** Checks go together in batches, this often. */
const TICK_MS = 20;
const MAX_BATCH = 1_000;
/** More than this under way means that the server does not keep up; what is due then is dropped and counted. */
const MAX_UNDER_WAY = 50;

const USERS = 400;
const MODELS = ['gpt-4', 'claude-3-opus', 'llama-3-70b', 'mistral-small'];
const TENANTS = ['acme', 'globex', 'initech', 'umbrella'];
const SERVICES = ['chat', 'search', 'payments'];

const { values } = parseArgs({
    options: {
        url: { type: 'string', default: 'http://127.0.0.1:8000' },
        rate: { type: 'string', default: '100' },
        speed: { type: 'string' },
        seconds: { type: 'string', default: '30' },
        trace: { type: 'string', multiple: true, default: [] },
        seed: { type: 'string', default: '1' },
    },
});

/** @param {string} name @param {string} text @param {number} max */
function bounded(name, text, max) {
    const value = Number(text);
    if (!(value > 0 && value <= max))
        throw new Error(`--${name} takes more than 0 and at most ${max}: ${text}`);
    return value;
}

/** Mulberry32. @param {number} seed */
function randomOf(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(state ^ (state >>> 15), state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
    };
}

/** @typedef {{ atMs: number, input: number, output: number }} Request */

/** The requests of a trace, `TIMESTAMP,ContextTokens,GeneratedTokens`, by when they came. @param {string} file */
function readTrace(file) {
    const [, ...lines] = readFileSync(file, 'utf8').trim().split('\n');
    return lines.map((line) => {
        const [time = '', input, output] = line.split(',');
        return {
            atMs: Date.parse(`${time.slice(0, 23).replace(' ', 'T')}Z`),
            input: Number(input),
            output: Number(output),
        };
    });
}

const perSecond = bounded('rate', values.rate, MAX_RATE);
const speed = values.speed === undefined ? null : bounded('speed', values.speed, MAX_SPEED);
const seconds = bounded('seconds', values.seconds, MAX_SECONDS);
const random = randomOf(Number(values.seed));
const trace = values.trace.flatMap(readTrace).sort((a, b) => a.atMs - b.atMs);
if (speed !== null && trace.length === 0) throw new Error('--speed takes a --trace to replay');
if (trace.some(({ atMs, input, output }) => !Number.isSafeInteger(atMs + input + output)))
    throw new Error('--trace takes lines of TIMESTAMP,ContextTokens,GeneratedTokens');

/** One of `all`, the first ones more often. @template Item @param {readonly Item[]} all */
function skewed(all) {
    return /** @type {Item} */ (all[Math.floor(all.length * random() ** 2)]);
}

/** @param {number} index */
function checkAt(index) {
    const user = Math.floor(USERS * random() ** 3);
    const drawn = { input: Math.floor(4_000 * random()), output: Math.floor(400 * random()) };
    const tokens = trace[index % Math.max(1, trace.length)] ?? drawn;
    return {
        userId: `user-${String(user).padStart(3, '0')}`,
        modelId: skewed(MODELS),
        tenantId: TENANTS[user % TENANTS.length],
        service: skewed(SERVICES),
        cost: {
            tokens: tokens.input + tokens.output,
            input_tokens: tokens.input,
            output_tokens: tokens.output,
        },
    };
}

const tally = { sent: 0, allowed: 0, denied: 0, failed: 0, dropped: 0 };
let underWay = 0;

/** @param {number} count */
async function send(count) {
    underWay += 1;
    const checks = Array.from({ length: count }, (_, index) => checkAt(tally.sent + index));
    tally.sent += count;
    try {
        const response = await fetch(new URL('rate-limit/check/batch', `${values.url.replace(/\/$/, '')}/`), {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ checks }),
        });
        if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
        const { decisions } = /** @type {{ decisions: { allowed: boolean }[] }} */ (await response.json());
        const allowed = decisions.filter((decision) => decision.allowed).length;
        tally.allowed += allowed;
        tally.denied += count - allowed;
    } catch (error) {
        if (tally.failed === 0) console.error(String(error));
        tally.failed += count;
    } finally {
        underWay -= 1;
    }
}

const startedAt = performance.now();
const beganMs = trace[0]?.atMs ?? 0;
let due = 0;

/** How many checks are to be sent in the first `passedS` seconds. @param {number} passedS */
function plannedBy(passedS) {
    if (speed === null) return Math.floor(passedS * perSecond);
    let planned = due;
    while ((trace[planned]?.atMs ?? Infinity) - beganMs <= passedS * 1_000 * speed) planned += 1;
    return planned;
}

const timer = setInterval(() => {
    const passedS = (performance.now() - startedAt) / 1_000;
    if (passedS >= seconds || (speed !== null && due >= trace.length)) {
        clearInterval(timer);
        return;
    }
    const wanted = Math.min(MAX_BATCH, plannedBy(passedS) - due);
    if (wanted < 1) return;
    due += wanted;
    if (underWay < MAX_UNDER_WAY) void send(wanted);
    else tally.dropped += wanted;
}, TICK_MS);
process.on('SIGINT', () => clearInterval(timer));
process.on('exit', () => {
    const tookS = (performance.now() - startedAt) / 1_000;
    console.log(JSON.stringify({ ...tally, perSecond: Math.round(tally.sent / tookS) }));
});
