// Calls one tool of an MCP server with the official TypeScript client and prints the text of the answer. Arguments: URL, TOOL, ARGUMENTS (JSON).

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [url, tool, args] = process.argv.slice(2);
const client = new Client({ name: 'interop', version: '1.0.0' });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = await client.listTools();
if (!tools.some((t) => t.name === tool)) throw new Error(`no tool ${tool}`);
const result = await client.callTool({ name: tool, arguments: JSON.parse(args) });
console.log(result.content[0].text);
await client.close();
process.exit(result.isError ? 1 : 0);
