// Writes each built file once more, compressed, for the server to send as it is. Run after `vite build`.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

const DIST = new URL('../dist/', import.meta.url).pathname;
const COMPRESSIBLE = ['.html', '.js', '.css', '.svg', '.json'];

for (const entry of readdirSync(DIST, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    if (entry.isFile() && extname(file) === '.gz') rmSync(file);
    if (!entry.isFile() || !COMPRESSIBLE.includes(extname(file))) continue;
    const content = readFileSync(file);
    const compressed = gzipSync(content, { level: 9 });
    if (compressed.length < content.length) writeFileSync(`${file}.gz`, compressed);
}
