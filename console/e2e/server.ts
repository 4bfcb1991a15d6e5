/** A Tollgate server for one test: its process, its catalog in a directory of its own, and calls to it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import type { components } from '../src/api/schema';

export type Check = components['schemas']['Check'];
export type Decision = components['schemas']['Decision'];
export type FieldProblem = components['schemas']['FieldProblem'];

/** Far above what a start takes, on a machine that is busy with other things. */
const START_MS = 15_000;
/** Above the 8 s that a server takes at most to drain. */
const END_MS = 12_000;

const target = process.env.CARGO_TARGET_DIR ?? resolve(import.meta.dirname, '../../target');
const program = resolve(process.env.TOLLGATE_BIN ?? join(target, 'debug/tollgate'));

/** Ours, without what would set the server up otherwise. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('TOLLGATE_')),
);

/** What the calls below `/admin` ask for. Empty where the server makes one itself. */
export interface Tokens {
  write: string;
  read: string;
}

export interface AdminRequest {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  body?: unknown;
}

/** What the server prints when it serves: where, and the token, if it made that itself. */
interface Greeting {
  address: string;
  token: string | undefined;
}

const GREETING = /^console.*: (http:\/\/127\.0\.0\.1:\d+)\/(?:#\/sign-in\?token=(\w+))?$/mu;

function greetingOf(child: ChildProcess): Promise<Greeting> {
  return new Promise((found, failed) => {
    let said = '';
    const fail = (why: string): void => failed(new Error(`${program} ${why}; it said:\n${said}`));
    const timer = setTimeout(() => fail(`has not said in ${START_MS} ms where it serves`), START_MS);
    const read = (chunk: Buffer): void => {
      said += chunk.toString();
      const [, address, token] = GREETING.exec(said) ?? [];
      if (address === undefined) return;
      clearTimeout(timer);
      found({ address, token });
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', (error) => fail(`cannot be run: ${error.message}`));
    child.once('exit', (code, signal) => fail(`has ended with ${code ?? signal ?? 'nothing'}`));
  });
}

export class Server {
  private child: ChildProcess | null = null;
  private address = '';

  private readonly directory: string;
  private tokens: Tokens;

  private readonly flags: readonly string[];

  private constructor(directory: string, tokens: Tokens, flags: readonly string[]) {
    this.directory = directory;
    this.tokens = tokens;
    this.flags = flags;
  }

  /**
   * A server that serves, on a free port, with tokens that it is given or one that it makes, and with `flags`. Its catalog
   * has no policies, not even the built-in one unless it `keepsBuiltIn`.
   */
  static async start({
    makesToken = false,
    flags = [] as readonly string[],
    keepsBuiltIn = true,
  } = {}): Promise<Server> {
    const directory = await mkdtemp(join(tmpdir(), 'tollgate-e2e-'));
    const server = new Server(directory, makesToken ? { write: '', read: '' } : newTokens(), flags);
    try {
      await server.serve('127.0.0.1:0');
      if (!keepsBuiltIn) await server.fillAlone({ policies: [] });
    } catch (error) {
      await server.end();
      throw error;
    }
    return server;
  }

  /** Without a slash at the end. */
  get url(): string {
    return this.address;
  }

  /** Lets its bearer look and change. */
  get token(): string {
    return this.tokens.write;
  }

  /** Lets its bearer look. */
  get readToken(): string {
    return this.tokens.read;
  }

  /** The file of its catalog. */
  get catalog(): string {
    return join(this.directory, 'catalog.db');
  }

  /** The address of the console's page at `path`, such as `policies?new=1`. */
  page(path = ''): string {
    return `${this.address}/#/${path}`;
  }

  /** Such as the server prints when it has made the token itself. */
  get signInLink(): string {
    return this.page(`sign-in?token=${this.token}`);
  }

  /** Ends the process at once, as a crash does. Its port and its catalog stay for `restart`. */
  async kill(): Promise<void> {
    await this.stopBy('SIGKILL');
  }

  /** Serves again after `kill`, at the same port and from the same catalog. */
  async restart(tokens: Partial<Tokens> = {}): Promise<void> {
    this.tokens = { ...this.tokens, ...tokens };
    await this.serve(new URL(this.address).host);
  }

  async end(): Promise<void> {
    await this.stopBy('SIGTERM');
    await rm(this.directory, { recursive: true, force: true });
  }

  /** One call below `/admin`; throws unless the answer is a success. */
  async admin<Answer>(path: string, request: AdminRequest = {}): Promise<Answer> {
    return this.call<Answer>(`/admin/${path}`, this.adminInit(request));
  }

  /** What the server finds wrong with a call below `/admin` that it refuses. */
  async problemsOf(path: string, request: AdminRequest = {}): Promise<FieldProblem[]> {
    const response = await fetch(`${this.address}/admin/${path}`, this.adminInit(request));
    if (response.ok) throw new Error(`${path} is not refused`);
    return ((await response.json()) as components['schemas']['Problem']).errors;
  }

  /** Puts `catalog` into the server's: policies and directory, as `POST /admin/import` takes them. */
  async fill(catalog: object): Promise<void> {
    await this.admin('import', { method: 'POST', body: catalog });
  }

  /** The same, in place of the built-in policy. */
  async fillAlone(catalog: object): Promise<void> {
    await this.admin('policies/default', { method: 'DELETE' });
    await this.fill(catalog);
  }

  async check(check: Check): Promise<Decision> {
    return this.ask('check', check);
  }

  async peek(check: Check): Promise<Decision> {
    return this.ask('peek', check);
  }

  /** One call for all of `checks`. */
  async checkMany(checks: readonly Check[]): Promise<void> {
    await this.ask('check/batch', { checks });
  }

  /** Reserves a lease for `check`; gives its id. */
  async reserve(check: Check & { ttlMs?: number }): Promise<string> {
    return (await this.ask<components['schemas']['GrantedLease']>('leases', check)).lease.id;
  }

  /** Reports what the holder of lease `id` has used so far. */
  async observe(id: string, observed: Readonly<Record<string, number>>, seq = 1): Promise<void> {
    await this.ask(`leases/${id}/extend`, { seq, observed });
  }

  /** Settles lease `id` with what it used in the end. */
  async settle(id: string, usage: Readonly<Record<string, number>>, seq = 1): Promise<void> {
    await this.ask(`leases/${id}/settle`, { seq, usage });
  }

  private adminInit({ method = 'GET', body }: AdminRequest): RequestInit {
    return {
      method,
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
  }

  private ask<Answer>(how: string, body: unknown): Promise<Answer> {
    return this.call<Answer>(`/rate-limit/${how}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  }

  private async call<Answer>(path: string, init: RequestInit): Promise<Answer> {
    const response = await fetch(this.address + path, init);
    const text = await response.text();
    if (!response.ok) throw new Error(`${init.method ?? 'GET'} ${path}: ${response.status} ${text}`);
    return (text === '' ? undefined : JSON.parse(text)) as Answer;
  }

  private async serve(http: string): Promise<void> {
    const { write, read } = this.tokens;
    const secrets = { TOLLGATE_ADMIN_TOKEN: write, TOLLGATE_ADMIN_READ_TOKEN: read };
    const catalog = `sqlite:${this.catalog}`;
    this.child = spawn(program, ['serve', '--http', http, '--catalog', catalog, ...this.flags], {
      cwd: this.directory,
      env: write === '' ? environment : { ...environment, ...secrets },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { address, token } = await greetingOf(this.child);
    this.address = address;
    if (token !== undefined) this.tokens.write = token;
  }

  private async stopBy(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.child;
    this.child = null;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((done) => child.once('exit', () => done()));
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
    await ended;
    clearTimeout(timer);
  }
}

function newTokens(): Tokens {
  return { write: newToken(), read: newToken() };
}

export function newToken(): string {
  return randomBytes(24).toString('base64url');
}
