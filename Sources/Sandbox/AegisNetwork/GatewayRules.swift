/// The kernel's rules in the gateway's namespace: the same for any number of instances, so that they are loaded once.
///
/// Nothing is forwarded there anyway, and nothing listens but the gateway: the rules send every connection to the egress
/// proxy and every question to the resolver, whatever address it was for, and count what they drop by link.
enum GatewayRules {
    /// The name of the table.
    static func table(_ node: String) -> String { "aegis_\(node)" }

    /// What all links of a node begin with; 15 characters are the kernel's limit.
    static func prefix(_ node: String) -> String { "ag\(node.prefix(6))" }

    /// The ruleset; loading it again replaces it, in one step.
    static func text(node: String) -> String {
        let links = "iifname \"\(prefix(node))*\""
        let dropped = "update @dropped { iifname }"
        let often = "limit rate over 2000/second burst 4000 packets"
        let (names, egress) = (AddressPlan.resolverPort, AddressPlan.egressPort)
        return """
            add table inet \(table(node))
            delete table inet \(table(node))
            table inet \(table(node)) {
              set dropped { type ifname; size 65535; flags dynamic; counter; }
              set asking { type ifname; size 65535; flags dynamic; }
              set starting { type ifname; size 65535; flags dynamic; }
              chain early { type filter hook prerouting priority raw; policy accept;
                \(links) meta l4proto != { tcp, udp } \(dropped) drop
                \(links) meta protocol != ip \(dropped) drop
                \(links) udp dport != \(names) \(dropped) drop
                \(links) fib daddr type { broadcast, multicast } \(dropped) drop
                \(links) udp dport \(names) update @asking { iifname \(often) } \(dropped) drop
                \(links) tcp flags & (syn | ack) == syn update @starting { iifname \(often) } \(dropped) drop
              }
              chain redirected { type nat hook prerouting priority dstnat; policy accept;
                \(links) udp dport \(names) redirect to :\(names)
                \(links) tcp dport \(names) redirect to :\(names)
                \(links) meta l4proto tcp redirect to :\(egress)
              }
              chain input { type filter hook input priority filter; policy drop;
                \(links) udp dport \(names) accept
                \(links) tcp dport { \(names), \(egress) } accept
                \(links) \(dropped)
              }
              chain forward { type filter hook forward priority filter; policy drop;
                \(links) \(dropped)
              }
              chain output { type filter hook output priority filter; policy drop;
                oifname "\(prefix(node))*" udp sport \(names) accept
                oifname "\(prefix(node))*" ct state established tcp sport { \(names), \(egress) } accept
              }
            }

            """
    }
}
