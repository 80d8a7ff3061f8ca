// An MCP server as its owner wrote it, with the TypeScript SDK: it knows a base URL and nothing of tokens. BASE_URL is all that changes for the sidecar.

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { createServer } from 'node:http';
import { z } from 'zod';

const { BASE_URL, PORT } = process.env;

function profiles() {
  const server = new McpServer({ name: 'profiles', version: '1.0.0' });
  server.registerTool(
    'get_user_profile',
    { description: 'The profile of a user.', inputSchema: { user_id: z.string() } },
    async ({ user_id }) => {
      const answer = await fetch(`${BASE_URL}/users/${encodeURIComponent(user_id)}`);
      return { content: [{ type: 'text', text: await answer.text() }], isError: !answer.ok };
    },
  );
  return server;
}

createServer(async (request, response) => {
  const server = profiles();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on('close', () => {
    transport.close();
    server.close();
  });
  await server.connect(transport);
  await transport.handleRequest(request, response);
}).listen(Number(PORT), '127.0.0.1');
