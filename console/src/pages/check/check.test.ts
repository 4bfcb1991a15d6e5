import { execFileSync } from 'node:child_process';

import { describe, expect, it } from 'vitest';

import {
  checkOf,
  costOf,
  curlOf,
  DEFAULT_FORM,
  formOfCheck,
  formOfQuery,
  formPathOf,
  hasDetails,
  namesSubject,
  queryOfForm,
  shellQuoted,
  type CheckForm,
} from './check';

function form(change: Partial<CheckForm>): CheckForm {
  return { ...DEFAULT_FORM, ...change };
}

describe('a form', () => {
  it('comes back from its check', () => {
    const full = form({ tenant: 'acme', apiKey: 'key', service: 'chat', ip: '::1' });
    const attributes = [{ name: 'region', value: 'eu' }];
    for (const one of [form({}), { ...full, cost: [{ unit: 'tokens', amount: '12' }], attributes }]) {
      expect(formOfCheck(checkOf(one))).toEqual(one);
    }
  });
});

describe('the address', () => {
  it('holds what differs from the default and gives it back', () => {
    const forms = [
      form({}),
      form({ user: 'böb & co=#', model: 'a/b?c' }),
      form({ user: '', tenant: 'acme', service: 'payments', ip: '2001:db8::1' }),
      form({
        cost: [
          { unit: 'tokens', amount: '1200' },
          { unit: 'gpu=seconds', amount: '3' },
        ],
      }),
      form({
        attributes: [
          { name: 'region', value: 'eu=west' },
          { name: 'a=b %', value: '' },
        ],
      }),
    ];
    for (const one of forms) {
      expect(formOfQuery(new URLSearchParams(queryOfForm(one).toString()))).toEqual(one);
    }
    expect(queryOfForm(DEFAULT_FORM).toString()).toBe('');
  });

  it('never holds an API key', () => {
    expect(queryOfForm(form({ apiKey: 'tg_live_secret' })).toString()).not.toContain('secret');
  });

  it('passes over a cost without an amount sign', () => {
    expect(formOfQuery(new URLSearchParams('cost=tokens')).cost).toEqual([]);
  });
});

describe('the check', () => {
  it('leaves out what is empty', () => {
    expect(checkOf(form({}))).toEqual({ userId: 'alice', modelId: 'gpt-4' });
    expect(checkOf(form({ user: '', model: '', apiKey: 'k' }))).toEqual({ apiKey: 'k' });
  });

  it('names a subject if any attribute is given', () => {
    const nobody = { user: '', model: '' };
    expect(namesSubject(form(nobody))).toBe(false);
    expect(namesSubject(form({ ...nobody, attributes: [{ name: '', value: 'x' }] }))).toBe(false);
    expect(namesSubject(form({ ...nobody, ip: '::1' }))).toBe(true);
    expect(namesSubject(form({ ...nobody, attributes: [{ name: 'region', value: 'eu' }] }))).toBe(true);
  });

  it('names what is given', () => {
    const cost = [
      { unit: 'tokens', amount: '12' },
      { unit: '', amount: '9' },
    ];
    const attributes = [
      { name: 'region', value: 'eu' },
      { name: '', value: 'x' },
    ];
    expect(checkOf(form({ tenant: 't', apiKey: 'k', service: 's', ip: '::1', cost, attributes }))).toEqual({
      userId: 'alice',
      modelId: 'gpt-4',
      tenantId: 't',
      apiKey: 'k',
      service: 's',
      ip: '::1',
      cost: { tokens: 12 },
      attributes: { region: 'eu' },
    });
  });

  it('costs one request unless it says otherwise', () => {
    const check = { userId: 'u', modelId: 'm', cost: { tokens: 5 } };
    expect(costOf(check, 'requests')).toBe(1);
    expect(costOf(check, 'tokens')).toBe(5);
    expect(costOf(check, 'output_tokens')).toBe(0);
    expect(costOf({ ...check, cost: { requests: 0 } }, 'requests')).toBe(0);
  });

  it('has details when something folded away is set', () => {
    expect(hasDetails(form({ user: 'x' }))).toBe(false);
    expect(hasDetails(form({ ip: '::1' }))).toBe(true);
    expect(hasDetails(form({ cost: [{ unit: '', amount: '' }] }))).toBe(true);
  });
});

describe('the shell', () => {
  it('gets every text back as it was', () => {
    const texts = [
      "it's",
      `a "b" $HOME \`id\` \\ !`,
      "''",
      'line\nbreak',
      '日本 é',
      "'; rm -rf ~; '",
      '-d @file',
    ];
    for (const text of texts) {
      const printed = execFileSync('/bin/sh', ['-c', `printf %s ${shellQuoted(text)}`], { encoding: 'utf8' });
      expect(printed).toBe(text);
    }
  });

  it('sends exactly the check', () => {
    const check = checkOf(form({ user: `o'brien "x"\n$(id)`, tenant: "''" }));
    const command = curlOf(check, "https://limits.example/it's/rate-limit/check");
    const script = `curl() { for word; do printf '%s\\0' "$word"; done; }\n${command}`;
    const words = execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8' }).split('\0');
    expect(words.slice(0, 4)).toEqual([
      '-sS',
      "https://limits.example/it's/rate-limit/check",
      '-H',
      'content-type: application/json',
    ]);
    expect(words[4]).toBe('-d');
    expect(JSON.parse(words[5] ?? '')).toEqual(check);
  });
});

describe('a field that the server names', () => {
  it('is found in the form', () => {
    const cost = [
      { unit: 'a', amount: '1' },
      { unit: 'tokens', amount: '-1' },
    ];
    const attributes = [
      { name: 'region', value: '' },
      { name: 'user', value: 'bob' },
    ];
    const filled = form({ cost, attributes });
    const cases: [string, CheckForm, string | null][] = [
      ['userId', filled, 'user'],
      ['ip', filled, 'ip'],
      ['cost.tokens', filled, 'cost.1.amount'],
      ['cost', filled, 'cost.0.unit'],
      ['cost.Tok', form({ cost: [{ unit: 'Tok', amount: '1' }] }), 'cost.0.unit'],
      ['attributes.region', filled, 'attributes.0.value'],
      ['attributes.user', filled, 'attributes.1.name'],
      ['attributes', filled, 'attributes.0.name'],
      ['cost', form({}), null],
      ['body', filled, null],
    ];
    for (const [field, where, path] of cases)
      expect([field, formPathOf(field, where)]).toEqual([field, path]);
  });
});
