"""`helm test`: request each URL of the command line, and print the responses. For /v1/models the proxy requests its upstreams.

A request without a client key, which the proxy rejects with 401, shows only that the proxy is reachable.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

# The certificate may be for other names than that of the Service.
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
key = os.environ.get("CLIENT_KEY", "")

for url in sys.argv[1:]:
    request = urllib.request.Request(url, headers={"x-api-key": key} if key else {})
    try:
        with opener.open(request, timeout=60) as response:
            print(url, response.status, response.read().decode())
    except urllib.error.HTTPError as error:
        print(url, error.code, error.read().decode())
        if error.code != 401 or key:
            sys.exit(f"{url} failed: see the response above")
        print("The proxy needs a client key, so the test did not reach the upstream: set tests.existingSecret")
    except OSError as error:
        sys.exit(f"{url} cannot be reached: {error}")
