// An MCP server for callers that show a token, as its owner wrote it with the TypeScript SDK. It passes on the Authorization header of the call that it
// serves on the calls that it makes for it, and neither knows nor asks what is in it. Beside that: sessions, progress, a question to the user, and a
// stream that it closes and its client resumes.

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { randomUUID } from 'node:crypto';
import { once, EventEmitter } from 'node:events';
import { createServer } from 'node:http';
import { z } from 'zod';

const { BASE_URL, PORT } = process.env;
const signals = new EventEmitter();
const text = (text) => ({ content: [{ type: 'text', text }] });

// All that the sidecar asks of a server which is to act for its callers.
const authorization = ({ requestInfo }) => {
  const { authorization } = requestInfo.headers;
  return authorization ? { authorization } : {};
};

async function profile(user_id, extra) {
  const answer = await fetch(`${BASE_URL}/users/${encodeURIComponent(user_id)}`, { headers: authorization(extra) });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return (await answer.json()).displayName;
}

function profiles() {
  const server = new McpServer({ name: 'profiles', version: '1.0.0' });
  const user = { user_id: z.string() };
  const tool = (name, description, inputSchema, run) =>
    server.registerTool(name, { description, inputSchema }, async (args, extra) => text(await run(args, extra)));
  tool('get_user_profile', 'The name of a user.', user, ({ user_id }, extra) => profile(user_id, extra));
  tool('compare', 'Two looks at a user: tells of the first by progress, and takes the second when it is told to go on.', user, async ({ user_id }, extra) => {
    const first = await profile(user_id, extra);
    const told = once(signals, 'proceed');
    const { progressToken } = extra._meta;
    await extra.sendNotification({ method: 'notifications/progress', params: { progressToken, progress: 1, total: 2, message: first } });
    await told;
    return `${first}, ${await profile(user_id, extra)}`;
  });
  tool('proceed', 'Lets `compare` go on.', {}, () => {
    signals.emit('proceed');
    return 'so be it';
  });
  tool('ask', "The name of the user whom the client's user names.", {}, async (_, extra) => {
    const requestedSchema = { type: 'object', properties: { value: { type: 'string' } }, required: ['value'] };
    const answer = await server.server.elicitInput({ message: 'Whose profile?', requestedSchema }, { relatedRequestId: extra.requestId });
    return profile(answer.content.value, extra);
  });
  tool('leave', 'Closes the stream that its own answer was to come by, and goes on.', user, ({ user_id }, extra) => {
    extra.closeSSEStream();
    return profile(user_id, extra);
  });
  tool('announce', "Says on the session's own stream that the tools have changed.", {}, () => {
    server.sendToolListChanged();
    return 'announced';
  });
  return server;
}

// Events by number, so that a stream can be resumed.
class Events {
  all = [];
  async storeEvent(stream, message) {
    return String(this.all.push({ stream, message }) - 1);
  }
  async getStreamIdForEventId(id) {
    return this.all[Number(id)]?.stream;
  }
  async replayEventsAfter(id, { send }) {
    const { stream } = this.all[Number(id)];
    for (let n = Number(id) + 1; n < this.all.length; n += 1) {
      const { stream: of, message } = this.all[n];
      if (of === stream && message.jsonrpc) await send(String(n), message);
    }
    return stream;
  }
}

const sessions = new Map();
createServer(async (request, response) => {
  let transport = sessions.get(request.headers['mcp-session-id']);
  if (!transport && request.headers['mcp-session-id']) {
    response.writeHead(404).end();
    return;
  }
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, transport),
      onsessionclosed: (id) => sessions.delete(id),
      eventStore: new Events(),
      retryInterval: 10,
    });
    await profiles().connect(transport);
  }
  await transport.handleRequest(request, response);
}).listen(Number(PORT), '127.0.0.1');
