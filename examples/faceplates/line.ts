// A faceplate of one's own: calls over plain TCP, one line a call and one line an answer, so that `nc` is a client.
//
//   Calculator.add {"num1": 1, "num2": 2}        {"result":3}
//   Calculator@1.0.0.calculate [1, {...}]        {"error":{"code":"exception","message":"InvalidOperation: ...","exception":{...}}}
//
// What may go wrong with a line (too long, half sent, unread answers) and the drain are serveLines' business; pool,
// deadline and statistics are FaceplateCalls'. Here is only what a line means.
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
  /** Service of lines that name none: `add [1, 2]`. */
  readonly service: string;
}

const line: FaceplateModule<Options> = {
  options(given): Options {
    const { service = '', ...others } = given;
    if (typeof service !== 'string') throw new Error('service has to be text, the name of a service');
    for (const key of Object.keys(others)) throw new Error(`${key} is unknown, there is only service`);
    return { service };
  },

  start(context) {
    const { name, options } = context;
    const calls = new FaceplateCalls(context);
    return serveLines({
      ...context,
      async answer(line, { address, signal }) {
        const [, method = '', params = ''] = /^\s*(\S+)\s*(.*?)\s*$/.exec(line) ?? [];
        const target = parseMethodName(method.includes('.') ? method : `${options.service}.${method}`);
        let values: unknown;
        try {
          values = params === '' ? undefined : JSON.parse(params);
        } catch (thrown) {
          calls.enter('bad_request');
          throw new KatamariError('bad_request', `After the method has to come JSON: ${(thrown as Error).message}`);
        }
        return answerLine(await calls.json({ target, caller: `${name} ${address}`, signal }, values));
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
