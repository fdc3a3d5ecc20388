"""A buyer with httpx."""
import json
import os
import ssl

import httpx

proxy = httpx.Proxy(
    os.environ["PROXY"],
    auth=(os.environ["PROXY_USER"], os.environ["PROXY_PASSWORD"]),
    ssl_context=ssl.create_default_context(cafile=os.environ["PROXY_PEM"]),
)
with httpx.Client(proxy=proxy, verify=ssl.create_default_context(cafile=os.environ["CA"]), trust_env=False, timeout=30) as client:
    page = client.get(os.environ["URL"] + "/")
    size = len(client.get(f"{os.environ['URL']}/bytes/{os.environ['SIZE']}").content)
    try:
        client.get("https://owner-blocked.test/")
        refused = 0
    except httpx.ProxyError as e:
        refused = 403 if "403" in str(e) else str(e)
print(json.dumps({"page": page.status_code, "bytes": size, "refused": refused}))
