// Calls one tool of an MCP server with the official TypeScript client and prints the text of the answer. Arguments: URL, TOOL, ARGUMENTS (JSON). With TOKEN
// in the environment it shows that token; with PERSON it finds out how to get one, and signs that person in. A URL
// that ends in `/sse` is spoken to over the older transport, any other over Streamable HTTP; in the newest revision that both sides know.

import { Client, SSEClientTransport, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { Provider } from './sign_in.mjs';

const [url, tool, args] = process.argv.slice(2);
const { TOKEN, PERSON } = process.env;
const options = {};
if (TOKEN) options.authProvider = { token: () => TOKEN };
else if (PERSON) options.authProvider = new Provider(PERSON);
const Transport = url.endsWith('/sse') ? SSEClientTransport : StreamableHTTPClientTransport;
const transport = () => new Transport(new URL(url), options);
const client = () => new Client({ name: 'interop', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });

async function connected() {
  const [first, asking] = [client(), transport()];
  try {
    await first.connect(asking);
    return first;
  } catch (error) {
    if (!PERSON || !(error instanceof UnauthorizedError)) throw error;
    await asking.finishAuth(options.authProvider.cameBack);
  }
  const second = client();
  await second.connect(transport());
  return second;
}

const mcp = await connected();
const { tools } = await mcp.listTools();
if (!tools.some((t) => t.name === tool)) throw new Error(`no tool ${tool}`);
const result = await mcp.callTool({ name: tool, arguments: JSON.parse(args) });
console.log(result.content[0].text);
await mcp.close();
process.exit(result.isError ? 1 : 0);
