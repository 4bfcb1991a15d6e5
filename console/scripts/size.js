// Fails where the built console is larger than a page over a slow line should be. Run after `npm run build`.
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

const DIST = new URL('../dist/', import.meta.url).pathname;
const MAX_TOTAL_BYTES = 350 * 1024;
const MAX_FIRST_VIEW_BYTES = 200 * 1024;
/** What the first view needs: the entry and the index page. */
const FIRST_VIEW = ['index.html', 'src/pages/playground/PlaygroundPage.tsx'];

/** @typedef {{ file: string, css?: string[], imports?: string[] }} Chunk */
/** @type {Record<string, Chunk>} */
const manifest = JSON.parse(readFileSync(join(DIST, '.vite/manifest.json'), 'utf8'));

/** @param {string} file */
function gzipBytes(file) {
    return gzipSync(readFileSync(join(DIST, file)), { level: 9 }).length;
}

/** Adds the files that `name` loads at once to `files`.
 * @param {string} name
 * @param {Set<string>} files */
function collect(name, files) {
    const chunk = manifest[name];
    if (chunk === undefined) throw new Error(`${name} is not in the manifest`);
    if (files.has(chunk.file)) return;
    files.add(chunk.file);
    for (const css of chunk.css ?? []) files.add(css);
    for (const imported of chunk.imports ?? []) collect(imported, files);
}

/** @param {Iterable<string>} files */
function sum(files) {
    let bytes = 0;
    for (const file of files) bytes += gzipBytes(file);
    return bytes;
}

const served = readdirSync(DIST, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && ['.html', '.js', '.css', '.svg'].includes(extname(entry.name)))
    .map((entry) => join(entry.parentPath, entry.name).slice(DIST.length));
/** @type {Set<string>} */
const firstView = new Set(['index.html']);
for (const name of FIRST_VIEW) collect(name, firstView);

/** @param {string} what @param {number} bytes @param {number} maxBytes */
function report(what, bytes, maxBytes) {
    const kib = (/** @type {number} */ value) => (value / 1024).toFixed(1);
    console.log(`${what}: ${kib(bytes)} KiB of ${kib(maxBytes)} KiB gzip`);
    if (bytes > maxBytes) process.exitCode = 1;
}
for (const file of [...served].sort()) console.log(`  ${String(gzipBytes(file)).padStart(7)} B  ${file}`);
report('first view', sum(firstView), MAX_FIRST_VIEW_BYTES);
report('in all', sum(served), MAX_TOTAL_BYTES);
