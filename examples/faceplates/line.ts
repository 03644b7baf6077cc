// A sample faceplate: calls over plain TCP, one line per call and one line per reply, so that `nc` is a client.
//
//   Calculator.add {"num1": 1, "num2": 2}        {"result":3}
//   Calculator@1.0.0.calculate [1, {...}]        {"error":{"code":"exception","message":"InvalidOperation: ...","exception":{...}}}
//
// serveLines handles connections, limits on lines and the drain. FaceplateCalls handles pools, deadlines and
// statistics. This file only parses a line and formats the reply.

import {
  FaceplateCalls,
  KatamariError,
  parseMethodName,
  serveLines,
  type FaceplateModule,
  type JsonAnswer,
  type Outcome,
} from 'katamari/faceplate';

interface Options {
  /** Service for lines that name only a method: `add [1, 2]`. */
  readonly service: string;
}

const line: FaceplateModule<Options> = {
  options(given): Options {
    const { service = '', ...others } = given;
    if (typeof service !== 'string') throw new Error('service must be a string, the name of a service');
    for (const key of Object.keys(others)) throw new Error(`unknown option ${key}; the only option is service`);
    return { service };
  },

  start(context) {
    const { name, options } = context;
    const calls = new FaceplateCalls(context);
    return serveLines({
      ...context,
      async answer(line, { address, signal }) {
        // One pass: a pattern with spaces on both sides would take minutes for a line of many spaces.
        const text = line.trim();
        const space = text.search(/\s/);
        const method = space < 0 ? text : text.slice(0, space);
        const params = space < 0 ? '' : text.slice(space).trim();
        const target = parseMethodName(method.includes('.') ? method : `${options.service}.${method}`);
        let values: unknown;
        try {
          values = params === '' ? undefined : JSON.parse(params);
        } catch (thrown) {
          calls.enter('bad_request');
          throw new KatamariError('bad_request', `Expected JSON after the method: ${(thrown as Error).message}`);
        }
        const identity = await context.identify({ address });
        return answerLine(await calls.json({ target, caller: `${name} ${address}`, identity, signal }, values));
      },
      refusal: ({ code, message }) => errorLine(code, message),
    });
  },
};

export default line;

function answerLine(outcome: Outcome<JsonAnswer>): string {
  switch (outcome.kind) {
    case 'refused':
      return errorLine(outcome.error.code, outcome.error.message);
    case 'failed':
      return errorLine('application', outcome.message);
    case 'answered': {
      const { answer } = outcome;
      if (answer.ok) return JSON.stringify({ result: answer.value ?? null });
      const { exception, message, fields } = answer;
      return JSON.stringify({ error: { code: 'exception', message, exception: { name: exception, ...fields } } });
    }
  }
}

function errorLine(code: string, message: string): string {
  return JSON.stringify({ error: { code, message } });
}
