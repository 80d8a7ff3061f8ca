// One session of the official TypeScript client with a caller's token, with all that streams: prints a line for each thing that held. Arguments: URL. The
// token is in TOKEN, another caller's in OTHER.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { setTimeout as sleep } from 'node:timers/promises';

const [url] = process.argv.slice(2);
const headers = { authorization: `Bearer ${process.env.TOKEN}` };
const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
const client = new Client({ name: 'interop', version: '1.0.0' }, { capabilities: { elicitation: {} } });
let announced = false;
client.setNotificationHandler('notifications/tools/list_changed', () => (announced = true));
client.setRequestHandler('elicitation/create', ({ params }) => {
  console.log('asked:', params.message);
  return { action: 'accept', content: { value: '123' } };
});
await client.connect(transport);
const call = async (name, args = {}, options = {}) => (await client.callTool({ name, arguments: args }, options)).content[0].text;

await client.ping();
console.log('ping');
const onprogress = async ({ progress, total, message }) => {
  console.log('progress:', progress, total, message);
  await call('proceed');
};
console.log(await call('compare', { user_id: '123' }, { onprogress }));
console.log(await call('ask'));
console.log(await call('leave', { user_id: '123' }));
// The session's own stream is opened behind the client's back: until it is there, nobody hears.
for (let n = 0; n < 200 && !announced; n += 1) {
  await call('announce');
  await sleep(50);
}
console.log(announced ? 'announced' : 'never announced');
const named = { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-session-id': transport.sessionId };
const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' });
const listing = (token) => fetch(url, { method: 'POST', headers: { ...named, authorization: `Bearer ${token}` }, body });
console.log('another caller:', (await listing(process.env.OTHER)).status);
await transport.terminateSession();
console.log('after the end:', (await listing(process.env.TOKEN)).status);
await client.close();
process.exit(0);
