// Health of the Katamari process in this container, for Docker: exit code 0 when its stats faceplate answers `livez`
// or `readyz` (the first argument) with 200, else 1 and the reason. Needs no curl in the image.

const [what = 'livez'] = process.argv.slice(2);
const port = process.env.KATAMARI_PORTS_STATS || '9081';
try {
  const answer = await fetch(`http://127.0.0.1:${port}/${what}`, { signal: AbortSignal.timeout(2_500) });
  console.log((await answer.text()).trim());
  process.exitCode = answer.ok ? 0 : 1;
} catch (error) {
  console.log(`${what} on port ${port}: ${error.cause?.message ?? error.message}`);
  process.exitCode = 1;
}
