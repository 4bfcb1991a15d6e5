// Replays a trace of inference requests as checks to a server, faster or slower than it was, for a bounded time:
//   npm run traffic -- --url http://127.0.0.1:8000 --rate 100 --seconds 60 --trace FILE.csv
// A trace names nobody, so users and models are drawn with a seed: few users ask much, most ask little. Without a
// trace, costs are drawn likewise.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const MAX_RATE = 5_000;
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

/** @typedef {{ input: number, output: number }} Tokens */

/** The tokens of each request of a trace: `TIMESTAMP,ContextTokens,GeneratedTokens`. @param {string} file */
function readTrace(file) {
    const [, ...lines] = readFileSync(file, 'utf8').trim().split('\n');
    return lines.map((line) => {
        const [, input, output] = line.split(',').map(Number);
        return { input: input ?? 0, output: output ?? 0 };
    });
}

const perSecond = bounded('rate', values.rate, MAX_RATE);
const seconds = bounded('seconds', values.seconds, MAX_SECONDS);
const random = randomOf(Number(values.seed));
const trace = values.trace.flatMap(readTrace);

/** One of `all`, the first ones more often. @template Item @param {readonly Item[]} all */
function skewed(all) {
    return /** @type {Item} */ (all[Math.floor(all.length * random() ** 2)]);
}

/** @param {number} index */
function checkAt(index) {
    const user = Math.floor(USERS * random() ** 3);
    /** @type {Tokens} */
    const drawn = { input: Math.floor(4_000 * random()), output: Math.floor(400 * random()) };
    const tokens = trace[index % Math.max(1, trace.length)] ?? drawn;
    return {
        userId: `user-${String(user).padStart(3, '0')}`,
        modelId: skewed(MODELS),
        tenantId: TENANTS[user % TENANTS.length],
        service: skewed(SERVICES),
        cost: { tokens: tokens.input + tokens.output },
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
let due = 0;
const timer = setInterval(() => {
    const passedS = (performance.now() - startedAt) / 1_000;
    if (passedS >= seconds) {
        clearInterval(timer);
        return;
    }
    const wanted = Math.min(MAX_BATCH, Math.floor(passedS * perSecond) - due);
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
