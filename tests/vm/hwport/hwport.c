// SPDX-License-Identifier: GPL-2.0
/*
 * A network port with a packet engine, for tests on machines that have none: an Ethernet device in front of another one, with the same
 * address, that takes connections of flowtables as mtk_eth_soc does (drivers/net/ethernet/mediatek/mtk_ppe_offload.c). What it has taken it
 * rewrites and sends on before the kernel's network stack sees a packet. SYN, FIN and RST go to the stack, as with that engine.
 *
 *   insmod hwport.ko lower=phy0 name=eth0
 *
 * /proc/hwport says what it has and has done: entries, packets and bytes that it has sent on, and of these packets and bytes what it has told
 * the flowtable. For Linux 6.12.
 */
#include <linux/etherdevice.h>
#include <linux/hashtable.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/proc_fs.h>
#include <linux/rtnetlink.h>
#include <linux/seq_file.h>
#include <linux/tcp.h>
#include <net/flow_offload.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/tcp.h>

static char *lower = "phy0";
module_param(lower, charp, 0444);
static char *name = "eth0";
module_param(name, charp, 0444);

#define MANGLES 24

struct entry {
	struct hlist_node node;
	unsigned long cookie;
	__be16 proto;
	struct in6_addr src, dst;
	__be16 sport, dport;
	int mangles;
	struct {
		u8 htype;
		u32 offset, mask, val;
	} mangle[MANGLES];
	u64 packets, bytes, told_packets, told_bytes, lastused;
};

static struct net_device *port, *phy;
static DEFINE_HASHTABLE(table, 8);
static DEFINE_SPINLOCK(lock);
static LIST_HEAD(blocks);
static u64 entries, packets, bytes, told_packets, told_bytes;

static u32 key(__be16 sport, __be16 dport)
{
	return (__force u32)sport << 16 | (__force u32)dport;
}

static struct entry *of_cookie(unsigned long cookie)
{
	struct entry *e;
	int bucket;

	hash_for_each(table, bucket, e, node)
		if (e->cookie == cookie)
			return e;
	return NULL;
}

/* Words of a header as `tc pedit` changes them: what the mask has stays. */
static void change(struct sk_buff *skb, struct entry *e, struct tcphdr *tcp)
{
	bool v4 = e->proto == htons(ETH_P_IP);
	int i;

	for (i = 0; i < e->mangles; i++) {
		u8 htype = e->mangle[i].htype;
		void *head = htype == FLOW_ACT_MANGLE_HDR_TYPE_ETH ? (void *)eth_hdr(skb) :
			     htype == FLOW_ACT_MANGLE_HDR_TYPE_TCP ? (void *)tcp : (void *)skb_network_header(skb);
		__be32 old, new;

		memcpy(&old, head + e->mangle[i].offset, 4);
		new = (__force __be32)(((__force u32)old & e->mangle[i].mask) | e->mangle[i].val);
		memcpy(head + e->mangle[i].offset, &new, 4);
		if (htype == FLOW_ACT_MANGLE_HDR_TYPE_ETH)
			continue;
		inet_proto_csum_replace4(&tcp->check, skb, old, new, htype != FLOW_ACT_MANGLE_HDR_TYPE_TCP);
		if (htype == FLOW_ACT_MANGLE_HDR_TYPE_IP4)
			csum_replace4(&ip_hdr(skb)->check, old, new);
	}
	if (v4)
		ip_decrease_ttl(ip_hdr(skb));
	else
		ipv6_hdr(skb)->hop_limit--;
}

/* Whether the engine has sent the packet on. */
static bool carry(struct sk_buff *skb)
{
	bool v4 = skb->protocol == htons(ETH_P_IP);
	struct in6_addr src, dst;
	struct tcphdr *tcp;
	struct entry *e;
	int head, size, segments;

	if (!v4 && skb->protocol != htons(ETH_P_IPV6))
		return false;
	head = v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	if (!pskb_may_pull(skb, head + sizeof(struct tcphdr)))
		return false;
	if (v4) {
		struct iphdr *ip = ip_hdr(skb);

		if (ip->ihl != 5 || ip->protocol != IPPROTO_TCP || ip_is_fragment(ip) || ip->ttl < 2)
			return false;
		ipv6_addr_set_v4mapped(ip->saddr, &src);
		ipv6_addr_set_v4mapped(ip->daddr, &dst);
		size = ntohs(ip->tot_len);
	} else {
		struct ipv6hdr *ip = ipv6_hdr(skb);

		if (ip->nexthdr != IPPROTO_TCP || ip->hop_limit < 2)
			return false;
		src = ip->saddr;
		dst = ip->daddr;
		size = ntohs(ip->payload_len) + head;
	}
	tcp = (struct tcphdr *)(skb_network_header(skb) + head);
	if (tcp->syn || tcp->fin || tcp->rst)
		return false;
	spin_lock_bh(&lock);
	hash_for_each_possible(table, e, node, key(tcp->source, tcp->dest))
		if (e->proto == skb->protocol && e->sport == tcp->source && e->dport == tcp->dest &&
		    ipv6_addr_equal(&e->src, &src) && ipv6_addr_equal(&e->dst, &dst))
			break;
	if (!e || skb_cow(skb, ETH_HLEN) || skb_ensure_writable(skb, head + sizeof(struct tcphdr))) {
		spin_unlock_bh(&lock);
		return false;
	}
	tcp = (struct tcphdr *)(skb_network_header(skb) + head);
	/* On the wire a group is its segments. */
	segments = skb_is_gso(skb) ? max_t(int, skb_shinfo(skb)->gso_segs, 1) : 1;
	size += (segments - 1) * (head + tcp->doff * 4);
	change(skb, e, tcp);
	e->packets += segments;
	e->bytes += size;
	e->lastused = jiffies;
	packets += segments;
	bytes += size;
	spin_unlock_bh(&lock);
	skb_push(skb, ETH_HLEN);
	skb->dev = phy;
	skb->priority = 0;
	skb_forward_csum(skb);
	dev_queue_xmit(skb);
	return true;
}

static rx_handler_result_t receive(struct sk_buff **pskb)
{
	struct sk_buff *skb = skb_share_check(*pskb, GFP_ATOMIC);

	if (!skb)
		return RX_HANDLER_CONSUMED;
	*pskb = skb;
	if (skb->pkt_type == PACKET_HOST && carry(skb))
		return RX_HANDLER_CONSUMED;
	skb->dev = port;
	dev_sw_netstats_rx_add(port, skb->len);
	return RX_HANDLER_ANOTHER;
}

static int replace(struct flow_cls_offload *f)
{
	struct flow_rule *rule = flow_cls_offload_flow_rule(f);
	struct flow_match_control control;
	struct flow_match_basic basic;
	struct flow_match_ports ports;
	struct flow_action_entry *act;
	struct net_device *out = NULL;
	struct entry *e;
	int i, err = -EOPNOTSUPP;

	if (of_cookie(f->cookie))
		return -EEXIST;
	e = kzalloc(sizeof(*e), GFP_KERNEL);
	if (!e)
		return -ENOMEM;
	flow_rule_match_control(rule, &control);
	flow_rule_match_basic(rule, &basic);
	flow_rule_match_ports(rule, &ports);
	if (basic.key->ip_proto != IPPROTO_TCP)
		goto refuse;
	e->cookie = f->cookie;
	e->sport = ports.key->src;
	e->dport = ports.key->dst;
	e->lastused = jiffies;
	if (control.key->addr_type == FLOW_DISSECTOR_KEY_IPV4_ADDRS) {
		struct flow_match_ipv4_addrs match;

		flow_rule_match_ipv4_addrs(rule, &match);
		e->proto = htons(ETH_P_IP);
		ipv6_addr_set_v4mapped(match.key->src, &e->src);
		ipv6_addr_set_v4mapped(match.key->dst, &e->dst);
	} else {
		struct flow_match_ipv6_addrs match;

		flow_rule_match_ipv6_addrs(rule, &match);
		e->proto = htons(ETH_P_IPV6);
		e->src = match.key->src;
		e->dst = match.key->dst;
	}
	flow_action_for_each(i, act, &rule->action) {
		switch (act->id) {
		case FLOW_ACTION_MANGLE:
			if (e->mangles == MANGLES)
				goto refuse;
			e->mangle[e->mangles].htype = act->mangle.htype;
			e->mangle[e->mangles].offset = act->mangle.offset;
			e->mangle[e->mangles].mask = act->mangle.mask;
			e->mangle[e->mangles++].val = act->mangle.val;
			break;
		case FLOW_ACTION_REDIRECT:
			out = act->dev;
			break;
		case FLOW_ACTION_CSUM:
			break;
		default:
			goto refuse;
		}
	}
	if (out != port)
		goto refuse;
	spin_lock_bh(&lock);
	hash_add(table, &e->node, key(e->sport, e->dport));
	entries++;
	spin_unlock_bh(&lock);
	return 0;
refuse:
	kfree(e);
	return err;
}

static int command(enum tc_setup_type type, void *data, void *priv)
{
	struct flow_cls_offload *f = data;
	struct entry *e;
	int err = 0;

	if (type != TC_SETUP_CLSFLOWER)
		return -EOPNOTSUPP;
	if (f->command == FLOW_CLS_REPLACE)
		return replace(f);
	spin_lock_bh(&lock);
	e = of_cookie(f->cookie);
	if (!e) {
		err = -ENOENT;
	} else if (f->command == FLOW_CLS_DESTROY) {
		hash_del(&e->node);
		kfree(e);
		entries--;
	} else if (f->command == FLOW_CLS_STATS) {
		f->stats.lastused = e->lastused;
		f->stats.pkts = e->packets - e->told_packets;
		f->stats.bytes = e->bytes - e->told_bytes;
		e->told_packets = e->packets;
		e->told_bytes = e->bytes;
		told_packets += f->stats.pkts;
		told_bytes += f->stats.bytes;
	} else {
		err = -EOPNOTSUPP;
	}
	spin_unlock_bh(&lock);
	return err;
}

static int setup_block(struct net_device *dev, struct flow_block_offload *f)
{
	struct flow_block_cb *cb;

	if (f->binder_type != FLOW_BLOCK_BINDER_TYPE_CLSACT_INGRESS)
		return -EOPNOTSUPP;
	f->driver_block_list = &blocks;
	cb = flow_block_cb_lookup(f->block, command, dev);
	switch (f->command) {
	case FLOW_BLOCK_BIND:
		if (cb) {
			flow_block_cb_incref(cb);
			return 0;
		}
		cb = flow_block_cb_alloc(command, dev, dev, NULL);
		if (IS_ERR(cb))
			return PTR_ERR(cb);
		flow_block_cb_incref(cb);
		flow_block_cb_add(cb, f);
		list_add_tail(&cb->driver_list, &blocks);
		return 0;
	case FLOW_BLOCK_UNBIND:
		if (!cb)
			return -ENOENT;
		if (!flow_block_cb_decref(cb)) {
			flow_block_cb_remove(cb, f);
			list_del(&cb->driver_list);
		}
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int setup_tc(struct net_device *dev, enum tc_setup_type type, void *data)
{
	return type == TC_SETUP_FT ? setup_block(dev, data) : -EOPNOTSUPP;
}

static netdev_tx_t transmit(struct sk_buff *skb, struct net_device *dev)
{
	dev_sw_netstats_tx_add(dev, 1, skb->len);
	skb->dev = phy;
	dev_queue_xmit(skb);
	return NETDEV_TX_OK;
}

static int open_port(struct net_device *dev)
{
	return dev_open(phy, NULL);
}

static int close_port(struct net_device *dev)
{
	return 0;
}

static const struct net_device_ops ops = {
	.ndo_open = open_port,
	.ndo_stop = close_port,
	.ndo_start_xmit = transmit,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_setup_tc = setup_tc,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static void setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &ops;
	dev->features = NETIF_F_HW_TC |
			(phy->features & (NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_ALL_TSO | NETIF_F_HIGHDMA));
	dev->hw_features = dev->features;
	dev->lltx = true;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = phy->max_mtu;
}

static int show(struct seq_file *file, void *unused)
{
	spin_lock_bh(&lock);
	seq_printf(file, "%llu %llu %llu %llu %llu\n", entries, packets, bytes, told_packets, told_bytes);
	spin_unlock_bh(&lock);
	return 0;
}

static int __init begin(void)
{
	int err;

	phy = dev_get_by_name(&init_net, lower);
	if (!phy)
		return -ENODEV;
	port = alloc_netdev(0, name, NET_NAME_USER, setup);
	if (!port) {
		dev_put(phy);
		return -ENOMEM;
	}
	port->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	eth_hw_addr_set(port, phy->dev_addr);
	rtnl_lock();
	err = port->tstats ? register_netdevice(port) : -ENOMEM;
	if (!err)
		err = netdev_rx_handler_register(phy, receive, NULL);
	rtnl_unlock();
	if (err) {
		dev_put(phy);
		return err;
	}
	proc_create_single("hwport", 0444, NULL, show);
	return 0;
}

module_init(begin);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A port with a packet engine, for tests");
