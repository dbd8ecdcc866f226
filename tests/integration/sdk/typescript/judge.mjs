// The official TypeScript SDK against a proxy. Each line of its input is `{baseURL, scenario, parameters}`; for each it prints
// one line of JSON: what the SDK made of the proxy's answers. What is right is said in ../test_typescript.py.
import { createInterface } from 'node:readline';

import Anthropic, { APIError } from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { jsonSchemaOutputFormat } from '@anthropic-ai/sdk/helpers/json-schema';

const PERSON = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};

async function streamed(messages, params) {
  const events = [];
  const stream = messages.stream(params);
  stream.on('streamEvent', (event) => events.push(structuredClone(event)));
  return [events, await stream.finalMessage(), stream.request_id];
}

// An answer as a stream and whole, each followed by the next turn that takes it up.
async function bothWays(messages, { ask, nextUser }) {
  const [events, first, requestId] = await streamed(messages, ask);
  const whole = await messages.create(ask);
  for (const { content } of [first, whole]) {
    const results = content
      .filter((block) => block.type === 'tool_use')
      .map((block) => ({ type: 'tool_result', tool_use_id: block.id, content: 'fine' }));
    const user = { role: 'user', content: [...results, { type: 'text', text: nextUser }] };
    await messages.create({ ...ask, messages: [...ask.messages, { role: 'assistant', content }, user] });
  }
  return { events, streamed: first, whole, requestIds: [requestId, whole._request_id] };
}

const told = (error) => ({
  class: error.constructor.name,
  isApiError: error instanceof APIError,
  status: error.status ?? null,
  type: error.type ?? null,
  requestId: error.requestID ?? null,
  message: error.error?.error?.message ?? error.message,
});

async function failing(call) {
  try {
    return { answered: await call() };
  } catch (error) {
    return told(error);
  }
}

async function abort(client, { ask }) {
  const texts = [];
  const stream = client.messages.stream(ask);
  stream.on('text', (text) => {
    texts.push(text);
    stream.abort();
  });
  return { texts, ...(await failing(() => stream.finalMessage())), aborted: stream.aborted };
}

async function toolRunner(client, { ask }) {
  const seen = [];
  const tool = betaTool({
    name: 'get_weather',
    description: 'Weather of a city',
    inputSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    run: ({ city }) => {
      seen.push(city);
      return `22 degrees in ${city}`;
    },
  });
  const runner = client.beta.messages.toolRunner({ ...ask, tools: [tool] });
  if (!ask.stream) {
    return { seen, final: await runner };
  }
  let final;
  for await (const stream of runner) {
    final = await stream.finalMessage();
  }
  return { seen, final };
}

async function models(client, { id }) {
  const all = [];
  for await (const model of client.models.list({ limit: 2 })) {
    all.push(model.id);
  }
  return { all, one: await client.models.retrieve(id) };
}

const personFormat = () => ({ output_config: { format: jsonSchemaOutputFormat(PERSON) } });

const SCENARIOS = {
  bothWays: (client, parameters) => bothWays(client.messages, parameters),
  bothWaysInBeta: (client, parameters) => bothWays(client.beta.messages, parameters),
  error: (client, { ask }) => failing(() => client.messages.create(ask)),
  errorOfStream: (client, { ask }) => failing(() => client.messages.stream(ask).finalMessage()),
  countTokens: (client, { ask }) =>
    Promise.all([client.messages.countTokens(ask), client.beta.messages.countTokens(ask)]),
  models,
  parse: async (client, { ask }) => (await client.messages.parse({ ...ask, ...personFormat() })).parsed_output,
  parseStream: async (client, { ask }) =>
    (await client.messages.stream({ ...ask, ...personFormat() }).finalMessage()).parsed_output,
  abort,
  toolRunner,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { baseURL, scenario, parameters } = JSON.parse(line);
  const client = new Anthropic({ baseURL, apiKey: 'any', maxRetries: 0, timeout: 20_000 });
  console.log(JSON.stringify(await SCENARIOS[scenario](client, parameters)));
}
