// The browser that the tests share a way to start.

import { chromium } from 'playwright-core';

export const launch = () => chromium.launch({
  executablePath: process.env.CURLEW_CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
