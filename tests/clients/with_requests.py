"""A buyer with requests: the proxy's certificate is trusted alone, the origin's by its CA."""
import json
import os
import ssl

import requests
from requests.adapters import HTTPAdapter


class Through(HTTPAdapter):
    """requests has no option for the proxy's own TLS; urllib3 has."""

    def proxy_manager_for(self, proxy, **kwargs):
        context = ssl.create_default_context(cafile=os.environ["PROXY_PEM"])
        return super().proxy_manager_for(proxy, proxy_ssl_context=context, **kwargs)


session = requests.Session()
session.mount("https://", Through())
session.proxies = {"https": os.environ["PROXY_AUTH_URL"]}
session.verify = os.environ["CA"]
session.trust_env = False
page = session.get(os.environ["URL"] + "/", timeout=30)
size = sum(len(part) for part in session.get(f"{os.environ['URL']}/bytes/{os.environ['SIZE']}", stream=True).iter_content(65536))
try:
    session.get("https://owner-blocked.test/", timeout=30)
    refused = 0
except requests.exceptions.ProxyError as e:
    refused = 403 if "403" in str(e) else str(e)
print(json.dumps({"page": page.status_code, "bytes": size, "refused": refused}))
